import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import type { Command } from '../exec/spec.ts';
import { Fault } from '../fault.ts';
import type { Settings } from '../settings.ts';
import { userEnvironment } from './environment.ts';
import { openFolder } from './folder.ts';
import { offerToOom } from './limits.ts';
import type { Nested } from './nested.ts';
import { discard, Pipes } from './pipes.ts';

/** In the environment of user code that runs as the agent's own user: tells it from that of another agent. */
export const MARK = 'SANDBOX_MARK';

export interface Owner {
  uid: number;
  gid: number;
}

export interface Spawned {
  child: ChildProcess;
  stdout: Readable;
  stderr: Readable;
}

/** How user code is run, and whose the files are. */
export class UserSide {
  /** Absent: files and processes are the agent's own. */
  readonly owner: Owner | undefined;
  readonly #nested: Nested | undefined;
  readonly #workspaceDir: string;
  readonly #env: Record<string, string>;
  readonly #shell: string;
  readonly #pipes: Pipes;

  /** `added`: to the environment of all user code. */
  constructor(
    settings: Settings,
    machineEnv: NodeJS.ProcessEnv,
    nested: Nested | undefined,
    added: Record<string, string>,
  ) {
    this.owner = parseOwner(settings.user);
    this.#nested = nested;
    this.#pipes = new Pipes(settings.stateDir);
    this.#workspaceDir = settings.workspaceDir;
    this.#env = { ...userEnvironment(settings.homeDir, machineEnv), ...added };
    this.#shell = ['/bin/bash', '/usr/bin/bash'].find((path) => existsSync(path)) ?? '/bin/sh';
  }

  /** The process leads a group and session of its own. Rejects with a coded fault when it can't be started. */
  async spawn(command: Command): Promise<Spawned> {
    const cwd = resolve(this.#workspaceDir, command.cwd);
    const argv = typeof command.command === 'string' ? [this.#shell, '-c', command.command] : command.command;
    const env = { ...this.#env, ...command.env };
    using folder = this.#nested === undefined ? openFolder(cwd, this.owner) : undefined;
    const entry = (await this.#nested?.enter(argv, cwd, env)) ?? { argv, env };
    const [file, ...args] = entry.argv;
    const stdout = await this.#pipes.take();
    const stderr = await this.#pipes.take();
    try {
      const child = spawn(file!, args, {
        cwd: folder?.path ?? '/',
        env: entry.env,
        detached: true,
        stdio: [command.stdin ? 'pipe' : 'ignore', stdout.writeFd, stderr.writeFd],
        ...this.owner,
      });
      // Some failures are thrown, some are told by an event.
      if (child.pid === undefined) throw (await once(child, 'error'))[0];
      // On the other side of the namespaces a shell has done it; this is what keeps the way in open.
      if (this.#nested === undefined) offerToOom(child.pid);
      closeSync(stdout.writeFd);
      closeSync(stderr.writeFd);
      return { child, stdout: stdout.reading, stderr: stderr.reading };
    } catch (error) {
      discard(stdout);
      discard(stderr);
      throw spawnFault(error as NodeJS.ErrnoException, argv[0]!);
    }
  }

  async close(): Promise<void> {
    await this.#nested?.close();
  }

  /** Makes the workspace and HOME where they're missing. */
  async prepare(settings: Settings): Promise<void> {
    for (const dir of [settings.workspaceDir, settings.homeDir]) {
      if (existsSync(dir)) continue;
      mkdirSync(dir, { recursive: true });
      if (this.owner !== undefined) await chown(dir, this.owner.uid, this.owner.gid);
    }
  }
}

export function parseOwner(user: string | undefined): Owner | undefined {
  if (user === undefined || user === 'nested') return undefined;
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(user) ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Fault('internal', `MOBVIBE_AGENT_USER must be uid:gid or "nested", it is "${user}"`);
  }
  return { uid: Number(uid), gid: Number(gid) };
}

function spawnFault(error: NodeJS.ErrnoException, file: string): Fault {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EACCES':
    case 'EPERM':
    case 'ENOEXEC':
    case 'EISDIR':
    case 'ELOOP':
      return new Fault('command_not_found', `"${file}" could not be started: ${error.code}`, {
        field: 'command',
        cause: error,
      });
    case 'EAGAIN':
      return new Fault(
        'too_many_processes',
        `"${file}" could not be started: the limit of processes is reached`,
      );
    case 'ENOMEM':
      return new Fault('out_of_memory', `"${file}" could not be started: there is no memory left`);
    case 'E2BIG':
      return new Fault('invalid_command', 'The command and its environment are too long', {
        field: 'command',
      });
    default:
      return new Fault('internal', `The command could not be started: ${error.code ?? error.message}`);
  }
}
