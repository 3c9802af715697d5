import type { Readable, Writable } from 'node:stream';
import type { Printer } from './printer.ts';

/** The parts of `process` that the command line works on. */
export interface Streams {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean };
  env: NodeJS.ProcessEnv;
}

/** What every command gets. */
export interface Cli extends Streams {
  printer: Printer;
  /** What to exit with when nothing is thrown. */
  exitCode: number;
}
