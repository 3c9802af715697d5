import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ok, type Verdict, wrong } from './finding.ts';

interface Lock {
  packages: Record<string, { version?: string; optional?: boolean; dev?: boolean; link?: boolean }>;
}

const SHOWN = 3;

/** What is installed against what the lockfile says. */
export async function installedPackages(root: string): Promise<Verdict> {
  const lock: Lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  const versions = await Promise.all(
    Object.keys(lock.packages).map(async (path) => [path, await versionAt(join(root, path))] as const),
  );
  return judgePackages(lock, new Map(versions));
}

/** Undefined when there is none. */
export async function versionAt(folder: string): Promise<string | undefined> {
  try {
    const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
    return String(version).replace(/^v/, '');
  } catch {
    return undefined;
  }
}

/** `installed`: version by the path in the lockfile. */
export function judgePackages({ packages }: Lock, installed: Map<string, string | undefined>): Verdict {
  const locked = Object.entries(packages).filter(([path, { link }]) => path !== '' && !link);
  const others = locked.flatMap(([path, { version, optional, dev }]) => {
    const found = installed.get(path);
    // One for another platform, or only for working on the project.
    if (found === undefined && (optional || dev)) return [];
    return found === version?.replace(/^v/, '') ? [] : [`${path} is ${found ?? 'missing'}, not ${version}`];
  });
  if (others.length === 0) return ok(`${locked.length} packages as the lockfile says`);
  const more = others.length > SHOWN ? `, and ${others.length - SHOWN} more` : '';
  return wrong(`not as the lockfile says: ${others.slice(0, SHOWN).join('; ')}${more}`, 'npm ci');
}
