import { ok, type Verdict, wrong } from './finding.ts';
import { run, type Where } from './program.ts';

const NEEDED = 24;
const MEND = 'npm ci && export PATH="$PWD/node_modules/.bin:$PATH"';

/** Not the one that runs this: Pulumi takes `node` from the PATH, for the program, its providers and its actions. */
export async function nodeOnPath(where: Where): Promise<Verdict> {
  const ran = await run('node', ['--version'], where);
  return judgeNode(ran?.stdout.trim());
}

export function judgeNode(version: string | undefined): Verdict {
  if (version === undefined)
    return wrong('there is no node on the PATH, and Pulumi runs the program by it', MEND);
  const major = Number(/^v(\d+)\./.exec(version)?.[1] ?? 0);
  if (major >= NEEDED) return ok(`${version} on the PATH`);
  return wrong(`${version} on the PATH, and the program needs ${NEEDED} or later`, MEND);
}
