import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

const BATCH = 64;
const LOW = 16;
const MKFIFO_TIMEOUT_MS = 10_000;

/** One output of a process: the process gets `writeFd`, which is to be closed here once it has. */
export interface Pipe {
  reading: Readable;
  writeFd: number;
}

/**
 * Pipes for the output of processes. Node itself would give them sockets, which can't be opened by name: `echo > /dev/stderr`
 * then fails with ENXIO. Node can't make a pipe either, but it can open a FIFO, and that is one; so they are made in advance.
 */
export class Pipes {
  readonly #dir: string;
  readonly #ready: string[] = [];
  #making: Promise<void> | undefined;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, 'pipes');
    rmSync(this.#dir, { recursive: true, force: true });
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    this.#refill().catch(() => {});
  }

  async take(): Promise<Pipe> {
    let path = this.#ready.pop();
    while (path === undefined) {
      await this.#refill();
      path = this.#ready.pop();
    }
    if (this.#ready.length < LOW) this.#refill().catch(() => {});
    // The reader first: a writer waits for one. User code may open its own end again, so the file is not ours alone.
    const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writeFd = openSync(path, constants.O_WRONLY);
    unlinkSync(path);
    return { reading: new Socket({ fd: readFd, readable: true, writable: false }), writeFd };
  }

  #refill(): Promise<void> {
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  async #make(): Promise<void> {
    const paths = Array.from({ length: BATCH }, () => join(this.#dir, randomBytes(6).toString('hex')));
    const child = spawn('mkfifo', ['-m', '622', ...paths], {
      stdio: 'ignore',
      env: { PATH: '/usr/bin:/bin' },
      timeout: MKFIFO_TIMEOUT_MS,
    });
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`mkfifo failed with ${code}`);
    this.#ready.push(...paths);
  }
}

export function discard({ reading, writeFd }: Pipe): void {
  reading.destroy();
  closeSync(writeFd);
}
