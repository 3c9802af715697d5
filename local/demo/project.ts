import { cp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('../../examples/trail-notes', import.meta.url));

/**
 * Copies the example project to `folder`. Its symbolic link is made anew: some checkouts (`core.symlinks=false`, mirrors that
 * keep plain files only) have a text file in its place.
 */
export async function copyProject(folder: string): Promise<void> {
  await cp(PROJECT, folder, { recursive: true, verbatimSymlinks: true });
  const link = join(folder, 'scripts/test');
  await rm(link, { force: true });
  await symlink('check.sh', link);
}
