import type { ChildProcess } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineError, type MachineExit } from '../engine.ts';
import { exportText, ORDERS_FD, STATUS_FD } from './launch.ts';
import { spawnTool } from './run.ts';
import { RANGE_SIZE } from './uid-ranges.ts';

const BOOT_TIMEOUT_MS = 20_000;
const KILL_TIMEOUT_MS = 5_000;
/** What `image/init/init.sh` handles. */
const PASSED_ON: NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];
/** Every 5 ms. */
const HANDLER_TRIES = 1000;
const CONSOLE_TAIL = 4096;

export interface BootRequest {
  command: string[];
  env: Record<string, string>;
  /** Host id to map the machine's uid 0 to when it asks for maps. */
  firstId: number;
  /** One line that the machine wrote. */
  console: (stream: 'stdout' | 'stderr', line: string) => void;
}

type Ended = [code: number | null, signal: NodeJS.Signals | null];

/** A machine's processes as the host sees them: `unshare`, and pid 1 of the new namespaces below it. */
export class MachineProcess {
  readonly exited: Promise<Omit<MachineExit, 'oom_killed'>>;
  /** Host pid of the machine's pid 1. */
  readonly init: number;
  #ended = false;
  #killed = false;

  /** Resolves when the machine's own program is about to start. Rejects with `boot_failed`; nothing is left then. */
  static async boot(request: BootRequest): Promise<MachineProcess> {
    const script = exportText(request.env);
    const child = spawnTool(request.command, ['ignore', 'pipe', 'pipe', 'pipe', 'pipe']);
    const output = new ConsoleTail(child, request.console);
    const ended = new Promise<Ended>((resolve) => {
      child.on('error', (error) => {
        output.add(error.message);
        resolve([null, null]);
      });
      child.on('close', (code, signal) => resolve([code, signal]));
    });
    const orders = child.stdio[ORDERS_FD] as Writable;
    orders.on('error', () => undefined); // The other end is gone: `ended` tells.

    const timeout = AbortSignal.timeout(BOOT_TIMEOUT_MS);
    try {
      const init = await untilArmed(child, orders, request.firstId, timeout);
      const machine = new MachineProcess(init, ended, output);
      orders.end(`${script}go=1\n`);
      return machine;
    } catch (cause) {
      killInit(child.pid);
      await Promise.race([ended, sleep(KILL_TIMEOUT_MS, undefined, { ref: false })]);
      const reason = timeout.aborted ? `it was not up after ${BOOT_TIMEOUT_MS} ms` : (cause as Error).message;
      throw new EngineError('boot_failed', `The machine did not boot: ${reason}\n${output.text}`.trim(), {
        cause,
      });
    }
  }

  private constructor(init: number, ended: Promise<Ended>, output: ConsoleTail) {
    this.init = init;
    const namespace = pidNamespace(init);
    this.exited = ended.then(async ([code, signal]) => {
      this.#ended = true;
      // Had something killed `unshare`, pid 1 would still be dying.
      for (let tries = 0; namespace && pidNamespace(init) === namespace && tries < 1000; tries++)
        await sleep(5);
      return toExit(code, this.#killed || output.lostInit ? 'SIGKILL' : signal);
    });
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** To pid 1, which passes it on. Does nothing when the machine has ended. */
  async signal(signal: NodeJS.Signals): Promise<void> {
    if (PASSED_ON.includes(signal)) await this.#untilHandled();
    if (this.#ended) return;
    if (signal === 'SIGKILL') this.#killed = true;
    try {
      process.kill(this.init, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /**
   * Pid 1 has only just been started, and the kernel drops signals that a pid 1 has no handler for. Waits for all of the
   * handlers: a shell catches SIGINT in its own way before that.
   */
  async #untilHandled(): Promise<void> {
    const all = PASSED_ON.reduce((mask, name) => mask | (1n << BigInt(constants.signals[name] - 1)), 0n);
    for (let tries = 0; !this.#ended && tries < HANDLER_TRIES; tries++) {
      if ((caughtSignals(this.init) & all) === all) return;
      await sleep(5);
    }
  }
}

/** Answers the machine's requests until it says that it is armed; gives pid 1 then. Rejects when it ends first. */
async function untilArmed(
  child: ChildProcess,
  orders: Writable,
  firstId: number,
  signal: AbortSignal,
): Promise<number> {
  const status = child.stdio[STATUS_FD] as Readable;
  try {
    for await (const line of createInterface({ input: status, signal })) {
      const init = childOf(child.pid!);
      if (init === undefined) break;
      if (line === 'armed') return init;
      const map = `0 ${firstId} ${RANGE_SIZE}\n`;
      await Promise.all([writeFile(`/proc/${init}/uid_map`, map), writeFile(`/proc/${init}/gid_map`, map)]);
      orders.write('mapped\n');
    }
  } finally {
    status.destroy();
  }
  throw new Error('it ended before its own program was started');
}

/** Keeps the end of what the machine wrote, and hands it on by lines. */
class ConsoleTail {
  text = '';
  /** `unshare` says this when a signal has ended pid 1; its exit code is wrong then (util-linux 2.38). */
  lostInit = false;

  constructor(child: ChildProcess, console: BootRequest['console']) {
    for (const stream of ['stdout', 'stderr'] as const) {
      createInterface({ input: child[stream]! }).on('line', (line) => {
        if (line.startsWith('unshare: sigprocmask unblock failed')) this.lostInit = true;
        else {
          this.add(line);
          console(stream, line);
        }
      });
    }
  }

  add(line: string): void {
    this.text = `${this.text}${line}\n`.slice(-CONSOLE_TAIL);
  }
}

function killInit(unshare: number | undefined): void {
  const init = unshare === undefined ? undefined : childOf(unshare);
  // Without a pid 1 there is only `unshare`, or what comes before it.
  const pid = init ?? unshare;
  try {
    if (pid) process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** `undefined` when the process has ended, and for a zombie. */
function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

function caughtSignals(pid: number): bigint {
  try {
    const mask = /^SigCgt:\s+([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return BigInt(`0x${mask ?? '0'}`);
  } catch {
    return 0n;
  }
}

function childOf(pid: number): number | undefined {
  try {
    return (
      Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]) || undefined
    );
  } catch {
    return undefined;
  }
}

/** Pure: a shell's view of how the machine ended. Pid 1 passes on 128 + n for a signal that ended its program. */
export function toExit(code: number | null, signal: NodeJS.Signals | null): Omit<MachineExit, 'oom_killed'> {
  if (signal) return { exit_code: 128 + constants.signals[signal], signal };
  const exit_code = code ?? 1;
  const name = Object.entries(constants.signals).find(([, number]) => number === exit_code - 128)?.[0];
  return { exit_code, signal: name ?? null };
}
