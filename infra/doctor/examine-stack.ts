import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Finding, skipped, type Verdict } from './finding.ts';
import { versionAt } from './packages.ts';
import { NO_CLI, type Pulumi, pulumiBackend, pulumiPlugins, pulumiVersion } from './pulumi.ts';
import { findStack, judgeSettings, readSettings, type Settings } from './stack.ts';

export type Look = (
  check: string,
  mend: string,
  look: (signal: AbortSignal) => Promise<Verdict | Verdict[]>,
) => Promise<Finding[]>;

interface Asked {
  pulumi: Pulumi;
  env: NodeJS.ProcessEnv;
  /** Default: the selected one. */
  stack: string | undefined;
  /** Folder of `Pulumi.yaml`. */
  projectDir: string;
  /** Of this project. */
  nodeModules: string;
  look: Look;
}

/** Pulumi, and how far the way to the stack's settings leads: each step needs the one before it. */
export async function examineStack({ pulumi, env, stack, projectDir, nodeModules, look }: Asked) {
  const findings: Finding[] = [];
  const end = (why: string, ...checks: string[]) => {
    findings.push(...checks.map((check) => ({ check, ...skipped(why) })));
    return { findings, settings: new Map() as Settings };
  };
  /** Whether it may go on. */
  const step = async (...seen: Parameters<Look>) => {
    const found = await look(...seen);
    findings.push(...found);
    return found.every(({ status }) => status !== 'wrong');
  };

  const hasCli = await step('pulumi', 'pulumi version', (signal) => pulumiVersion(pulumi, signal));
  if (!hasCli) return end(NO_CLI, 'plugins', 'backend', 'stack', 'settings', 'secrets');
  await step('plugins', 'pulumi plugin ls', async (signal) => {
    const wanted = ['command', 'docker'].map(async (name) => {
      const version = await versionAt(join(nodeModules, '@pulumi', name));
      return { name, version: version ?? '' };
    });
    return pulumiPlugins(pulumi, await Promise.all(wanted), env, signal);
  });
  const hasBackend = await step('backend', 'pulumi login', (signal) => pulumiBackend(pulumi, signal));
  if (!hasBackend) return end('no backend', 'stack', 'settings', 'secrets');

  let name: string | undefined;
  await step('stack', 'pulumi stack ls', async (signal) => {
    const found = await findStack(pulumi, stack, signal);
    name = found.name;
    return found.verdict;
  });
  if (name === undefined) return end('no stack', 'settings', 'secrets');
  const of = name;
  let settings: Settings | undefined;
  await step('secrets', 'pulumi config', async (signal) => {
    const project = projectName(await readFile(join(projectDir, 'Pulumi.yaml'), 'utf8'));
    const read = await readSettings(pulumi, { project, stack: of }, signal);
    settings = read.settings;
    return read.verdict;
  });
  if (settings === undefined) return end('they could not be read', 'settings');
  const known = settings;
  await step('settings', 'pulumi config', async () => judgeSettings(known, of));
  return { findings, settings: known };
}

/** Settings stand under it. */
function projectName(yaml: string): string {
  return /^name:\s*["']?([\w.-]+)/m.exec(yaml)?.[1] ?? '';
}
