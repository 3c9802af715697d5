import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const LAUNCHER = fileURLToPath(new URL('../../../client/cli/mobvibe.js', import.meta.url));

export interface CliRun {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

/** The command line as a process of its own. */
export class Cli {
  readonly child: ChildProcess;
  readonly ended: Promise<CliRun>;
  readonly #stdout: Buffer[] = [];

  constructor(args: string[], env: Record<string, string>, { node = process.execPath } = {}) {
    const { PATH = '', TMPDIR = '/tmp' } = process.env;
    this.child = spawn(node, [LAUNCHER, ...args], { env: { PATH, TMPDIR, HOME: '/nonexistent', ...env } });
    const stderr: Buffer[] = [];
    this.child.stdout!.on('data', (data: Buffer) => this.#stdout.push(data));
    this.child.stderr!.on('data', (data: Buffer) => stderr.push(data));
    this.child.stdin!.on('error', () => {});
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        resolve({
          code,
          signal,
          stdout: Buffer.concat(this.#stdout),
          stderr: Buffer.concat(stderr).toString(),
        });
      });
    });
  }

  /** What it has printed until now. */
  get output(): string {
    return Buffer.concat(this.#stdout).toString();
  }
}
