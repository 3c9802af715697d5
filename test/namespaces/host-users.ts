import { execFileSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Mode } from '../../local/fly/namespaces/host.ts';
import { parseSubids } from '../../local/fly/namespaces/uid-ranges.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = [
  'package.json',
  'local/fly/engine.ts',
  'local/fly/exec-output.ts',
  'local/fly/namespaces',
  'image/init',
  'test/namespaces/engine-process.ts',
];
/** No account needs to exist for it. */
const RANGELESS_UID = 61_173;

/** A user of this host that the engine is run as. */
export interface HostUser {
  name: string;
  /** How the engine must run machines for this user; `undefined` where that depends on the host. */
  kind: Mode | undefined;
  /** Why tests can't run as this user here. */
  missing?: string | undefined;
  /** Makes the user where needed. */
  open(): OpenUser;
}

export interface OpenUser {
  uid: number;
  /** Words before a command that is to run as the user. */
  become: string[];
  close(): void;
}

const self = process.getuid!();

/** The user that runs the tests, and, where that is root, the two kinds of ordinary user. */
export const HOST_USERS: HostUser[] = [
  {
    name: self === 0 ? 'root' : 'the current user',
    kind: undefined,
    open: () => ({ uid: self, become: [], close: () => undefined }),
  },
  { name: 'a user with a range of ids', kind: 'subuid', missing: whyNoRange(), open: makeUserWithRange },
  {
    name: 'a user without a range of ids',
    kind: 'single',
    missing: self === 0 ? undefined : 'only root can become another user',
    open: () => ({ uid: RANGELESS_UID, become: become(RANGELESS_UID), close: () => undefined }),
  },
];

export interface Stage {
  dir: string;
  /** The command line that runs the engine in a process of its own. */
  engine(options: object): string[];
  remove(): void;
}

/**
 * A folder below the system's temporary one that `uid` can read and write, with a copy of the engine: the checkout may be
 * closed to other users.
 */
export function makeStage(uid: number): Stage {
  const dir = mkdtempSync(join(tmpdir(), 'mobvibe-ns-'));
  chmodSync(dir, 0o755);
  for (const path of SOURCES) cpSync(join(CHECKOUT, path), join(dir, path), { recursive: true });
  execFileSync('chmod', ['-R', 'a+rX', dir]);
  const node = readableBy(uid, process.execPath) ? process.execPath : join(dir, 'node');
  if (node !== process.execPath) copyFileSync(process.execPath, node, constants.COPYFILE_FICLONE);
  for (const name of ['state', 'gateway', 'payload']) {
    mkdirSync(join(dir, name));
    chownSync(join(dir, name), uid, uid);
  }
  writeFileSync(join(dir, 'payload/idle.js'), "console.log('idle'); setInterval(() => {}, 1000);");
  const program = join(dir, 'test/namespaces/engine-process.ts');
  return {
    dir,
    engine: (options) => [
      ...[node, program],
      JSON.stringify({
        stateDir: join(dir, 'state'),
        gatewayDir: join(dir, 'gateway'),
        images: { test: { dir: join(dir, 'payload'), entrypoint: ['/usr/bin/sleep', 'infinity'] } },
        ...options,
      }),
    ],
    remove: () => removeStage(dir),
  };
}

/** Files of machines may belong to ids of a range: then only root of a namespace with that range removes them. */
function removeStage(dir: string): void {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
    execFileSync('unshare', ['--map-root-user', '--map-auto', 'rm', '-rf', dir]);
  }
}

function become(uid: number): string[] {
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=-all'];
}

function readableBy(uid: number, path: string): boolean {
  try {
    if (uid === self) accessSync(path, constants.X_OK);
    else execFileSync('setpriv', [...become(uid).slice(1), 'test', '-x', path]);
    return true;
  } catch {
    return false;
  }
}

function whyNoRange(): string | undefined {
  if (self !== 0) return 'only root can make another user';
  const tools = ['/usr/sbin/useradd', '/usr/sbin/usermod', '/usr/sbin/userdel', '/usr/bin/newuidmap'];
  const absent = tools.filter((path) => !existsSync(path));
  return absent.length > 0 ? `${absent.join(', ')} not installed` : undefined;
}

function makeUserWithRange(): OpenUser {
  const name = `mobvibe-t${process.pid}`;
  const files = ['/etc/subuid', '/etc/subgid'];
  const made = files.filter((file) => !existsSync(file));
  for (const file of made) writeFileSync(file, '');
  execFileSync('useradd', ['--no-create-home', '--home-dir', '/', '--user-group', name], { stdio: 'pipe' });
  // Some hosts' useradd gives a range by itself.
  if (!readFileSync('/etc/subuid', 'utf8').includes(`${name}:`)) {
    const first = Math.max(
      100_000,
      ...parseSubids(readFileSync('/etc/subuid', 'utf8')).map((span) => span.first + span.count),
    );
    const range = `${first}-${first + 65_535}`;
    execFileSync('usermod', ['--add-subuids', range, '--add-subgids', range, name]);
  }
  const uid = Number(execFileSync('id', ['-u', name], { encoding: 'utf8' }));
  return {
    uid,
    become: become(uid),
    close: () => {
      execFileSync('userdel', ['--force', name], { stdio: 'pipe' });
      for (const file of made) if (readFileSync(file, 'utf8') === '') rmSync(file);
    },
  };
}
