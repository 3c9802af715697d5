import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Account } from './account.ts';

/** Lines kept for an error's message. */
const KEPT_LINES = 200;

export interface Program {
  process: ChildProcess;
  /** Latest lines of stdout and stderr together. */
  output: string[];
  /** Settles when the process has ended and its output was read. A program that can't be started ends with `code` null. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

export interface ProgramOptions {
  account: Account | undefined;
  cwd: string;
  onLine?: (line: string) => void;
}

/** Starts a program in a session of its own, so that a terminal's Ctrl-C reaches us alone, and without our environment's secrets. */
export function startProgram(file: string, args: string[], options: ProgramOptions): Program {
  const child = spawn(file, args, {
    ...options.account,
    cwd: options.cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
  });
  const output: string[] = [];
  const take = (line: string) => {
    output.push(line);
    if (output.length > KEPT_LINES) output.shift();
    options.onLine?.(line);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take);
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('error', (error) => {
      take(String(error));
      if (child.pid === undefined) resolve({ code: null, signal: null });
    });
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  return { process: child, output, ended };
}

/** Runs a program to its end; at the deadline it is killed. */
export async function runToEnd(
  file: string,
  args: string[],
  options: ProgramOptions & { timeoutMs: number },
): Promise<{ code: number | null; output: string[] }> {
  const program = startProgram(file, args, options);
  const timer = setTimeout(() => program.process.kill('SIGKILL'), options.timeoutMs);
  const { code } = await program.ended;
  clearTimeout(timer);
  return { code, output: program.output };
}
