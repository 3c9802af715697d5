import { createHash } from 'node:crypto';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** One line for each path below a folder, e.g. `file 755 1f2e… scripts/check.sh`; sorted, so that two trees compare as text. */
export async function describeTree(root: string): Promise<string[]> {
  const lines: string[] = [];
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const full = join(entry.parentPath, entry.name);
    const path = full.slice(root.length + 1);
    const mode = ((await lstat(full)).mode & 0o777).toString(8);
    if (entry.isSymbolicLink()) lines.push(`link ${await readlink(full)} ${path}`);
    else if (entry.isDirectory()) lines.push(`directory ${mode} ${path}`);
    else lines.push(`file ${mode} ${sha256(await readFile(full))} ${path}`);
  }
  return lines.sort();
}

/** What is in one list and not in the other, marked `-` and `+`. */
export function treeDifference(before: readonly string[], after: readonly string[]): string[] {
  const [had, has] = [new Set(before), new Set(after)];
  return [
    ...before.filter((line) => !has.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !had.has(line)).map((line) => `+ ${line}`),
  ];
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 16);
}
