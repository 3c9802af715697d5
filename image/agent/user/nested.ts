import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Fault } from '../fault.ts';
import { log, messageOf } from '../log.ts';
import type { UserLimits } from './limits.ts';
import { send, statusOf } from './processes.ts';

const READY_TIMEOUT_MS = 10_000;
const NSENTER = '/usr/bin/nsenter';
const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

export interface Entry {
  argv: string[];
  env: Record<string, string>;
}

/** Reaps whatever user code leaves behind, as the first process of its pid namespace must. */
const INIT = 'echo ready; while :; do sleep infinity; done';

/** Hides the agent's folders, makes a /proc of the new pid namespace, then gives up all power by a user namespace. */
const SETUP = [
  'set -e',
  'for dir in "$@"; do mount -t tmpfs -o size=4k,mode=000,nosuid,nodev,noexec tmpfs "$dir"; done',
  'mount -t proc -o nosuid,nodev,noexec proc /proc',
  `exec unshare --user --map-user=1000 --map-group=1000 setpriv --no-new-privs sh -c '${INIT}'`,
].join('\n');

/**
 * The user's side of a machine that has a single uid: namespaces of its own, made once, that every exec enters. Code there
 * can't see the agent's processes, its sockets or its state.
 */
export class Nested {
  readonly #hidden: string[];
  readonly #limits: UserLimits;
  #side: Promise<Side> | undefined;
  #session: number | undefined;

  /** `hidden`: folders of the agent that must not be seen from there. */
  constructor(hidden: string[], limits: UserLimits) {
    this.#hidden = hidden;
    this.#limits = limits;
  }

  /** Of the processes there that are not the user's; undefined while there are none. */
  get ownSession(): number | undefined {
    return this.#session;
  }

  /** Makes the namespaces where there are none: user code may have brought its own down, and all that ran there with them. */
  open(): Promise<Side> {
    if (this.#side !== undefined) return this.#side;
    const side = makeSide(this.#hidden);
    this.#side = side;
    const forget = () => {
      if (this.#side !== side) return;
      this.#side = undefined;
      this.#session = undefined;
    };
    side.then(({ holder, session }) => {
      this.#session = session;
      holder.once('exit', forget);
    }, forget);
    return side;
  }

  /** The command line that runs `argv` there, and its environment. Rejects with a coded fault where it couldn't be started. */
  async enter(argv: string[], cwd: string, env: Record<string, string>): Promise<Entry> {
    if (!(statSync(cwd, { throwIfNoEntry: false })?.isDirectory() ?? false)) {
      throw new Fault('cwd_not_found', `"${cwd}" is not a directory`, { field: 'cwd' });
    }
    checkExecutable(argv[0]!, cwd, env.PATH ?? '');
    if (this.#limits.reached()) throw new Fault('too_many_processes', this.#limits.told);
    const { init } = await this.open();
    // nsenter still has the agent's power, so a caller's LD_PRELOAD or PATH must not reach it: the caller's variables go as
    // values of ours, and are unpacked on the other side.
    const packed = Object.entries(env).map(
      ([name, value], index) => [`E${index}`, `${name}=${value}`] as const,
    );
    const unpack = `${this.#limits.script} exec env -i ${packed.map(([name]) => `"$${name}"`).join(' ')} "$@"`;
    return {
      argv: [
        ...[NSENTER, '-t', String(init), '-U', '-m', '-p', '-i', '--preserve-credentials'],
        // Resolved inside; -w would hand user code a folder of the agent's own mount namespace.
        `--wdns=${cwd}`,
        ...['setpriv', '--no-new-privs', '--pdeathsig', 'KILL', 'sh', '-c', unpack, 'sh', ...argv],
      ],
      env: { PATH: SYSTEM_PATH, ...Object.fromEntries(packed) },
    };
  }

  /** Ends it and all that runs there. */
  async close(): Promise<void> {
    const side = await this.#side?.catch(() => undefined);
    if (side === undefined) return;
    const gone = side.holder.exitCode ?? side.holder.signalCode ?? once(side.holder, 'exit');
    // Its first process: the kernel ends the others with it, and `unshare` when it has.
    send(side.init, 'SIGKILL');
    await gone;
  }
}

interface Side {
  /** Process 1 of the namespaces, as the agent sees it. */
  init: number;
  session: number;
  /** Ends with them, and they with it. */
  holder: ChildProcess;
}

async function makeSide(hidden: string[]): Promise<Side> {
  limitUserNamespaces(100);
  const namespaces = ['--mount', '--pid', '--ipc', '--fork', '--kill-child'];
  const command = ['--pdeathsig', 'KILL', 'unshare', ...namespaces, 'sh', '-c', SETUP, 'setup', ...hidden];
  const holder = spawn('setpriv', command, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: SYSTEM_PATH },
  });
  await ready(holder);
  limitUserNamespaces(1);
  const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'latin1');
  const init = Number(children.trim().split(' ')[0]);
  return { init, session: Number(statusOf(init)('NSsid')[0]), holder };
}

/**
 * The side is one; a further one would open parts of the kernel to user code that are closed to it otherwise. One that has just
 * ended still counts for a moment, so that the limit is lifted while another is made: no user code runs then.
 */
function limitUserNamespaces(most: number): void {
  // In no user namespace of its own, the agent would change the setting of the whole host.
  if (/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'))) return;
  try {
    writeFileSync('/proc/sys/user/max_user_namespaces', String(most));
  } catch (error) {
    log('warn', 'user code can make user namespaces', { detail: messageOf(error) });
  }
}

function ready(holder: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let complaint = '';
    const timer = setTimeout(() => {
      holder.kill('SIGKILL');
      reject(new Error(`The user's namespaces were not ready within ${READY_TIMEOUT_MS} ms: ${complaint}`));
    }, READY_TIMEOUT_MS);
    holder.stderr!.on('data', (text: Buffer) => {
      complaint += text.toString();
    });
    holder.stdout!.once('data', () => {
      clearTimeout(timer);
      // From now on user code runs there, and could make us keep what it writes.
      holder.stderr!.removeAllListeners('data').resume();
      resolve();
    });
    holder.once('error', reject);
    holder.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`The user's namespaces could not be made (exit ${code}): ${complaint.trim()}`));
    });
  });
}

/** nsenter would report a missing command as an exit code, which must never be invented. */
function checkExecutable(file: string, cwd: string, path: string): void {
  const candidates = file.includes('/')
    ? [resolve(cwd, file)]
    : path.split(':').map((dir) => join(resolve(cwd, dir), file));
  const found = candidates.some((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return statSync(candidate).isFile();
    } catch {
      return false;
    }
  });
  if (!found)
    throw new Fault('command_not_found', `"${file}" could not be started: not found`, { field: 'command' });
}
