import type { Writable } from 'node:stream';
import { MobVibeError } from '../index.ts';
import { NoResultError } from './exit.ts';

export interface Complaint {
  code: string;
  detail: string;
  /** What to do about it. */
  hint?: string;
  kind?: string;
  field?: string;
}

/** Answers go to stdout, everything said about them to stderr. With `--json` both are JSON, one value a line. */
export class Printer {
  readonly json: boolean;
  readonly #stdout: Writable;
  readonly #stderr: Writable & { isTTY?: boolean };

  constructor(stdout: Writable, stderr: Writable & { isTTY?: boolean }, json: boolean) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.json = json;
  }

  /** The answer of a command: the value as JSON, or the text made of it. */
  answer<T>(value: T, text: (value: T) => string): void {
    const line = this.json ? JSON.stringify(value) : text(value);
    if (line !== '') this.#stdout.write(`${line}\n`);
  }

  error({ code, detail, hint, ...more }: Complaint): void {
    if (this.json) {
      this.#stderr.write(`${JSON.stringify({ error: { code, detail, ...more, ...(hint && { hint }) } })}\n`);
      return;
    }
    const sentence = /[.!?]$/.test(detail) ? detail : `${detail}.`;
    this.#stderr.write(`mobvibe: ${sentence}${hint ? ` ${hint}` : ''} [${code}]\n`);
  }

  /** Something that has to be known whatever becomes of the command: on stderr, also with `--json`. */
  warn(value: object, text: string): void {
    this.#stderr.write(this.json ? `${JSON.stringify(value)}\n` : `mobvibe: ${text}\n`);
  }

  note(text: string): void {
    if (!this.json) this.#stderr.write(`mobvibe: ${text}\n`);
  }

  /** Shows that something takes its time, where someone is looking. */
  async progress<T>(label: string, work: (update: (label: string) => void) => Promise<T>): Promise<T> {
    const spinner = this.spin(label);
    try {
      return await work(spinner.update);
    } finally {
      spinner.stop();
    }
  }

  /** The same for work that ends, or gets to print something, elsewhere. Stopping it again does nothing. */
  spin(label: string): { update(label: string): void; stop(): void } {
    if (this.json || !this.#stderr.isTTY) return { update: () => {}, stop: () => {} };
    let shown = label;
    let frame = 0;
    const draw = () => this.#stderr.write(`\r\x1b[2K${FRAMES[frame++ % FRAMES.length]} ${shown}`);
    const timer = setInterval(draw, 80);
    return {
      update: (text) => {
        shown = text;
      },
      stop: () => {
        clearInterval(timer);
        if (frame > 0) this.#stderr.write('\r\x1b[2K');
        frame = 0;
      },
    };
  }
}

const FRAMES = [...'⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'];

const HINTS: Record<string, string> = {
  controller_unreachable: 'Start one with "mobvibe up", or set MOBVIBE_URL to one that runs.',
  unauthorized: 'Set MOBVIBE_API_KEY to a key of this controller.',
  session_not_found: 'See "mobvibe session list", or make it with "mobvibe session create --id ID".',
  session_not_open: 'Open it with "mobvibe session open ID".',
  session_stopping: 'It can be opened as soon as it is stopped: "mobvibe session open ID" waits for that.',
  save_failed:
    'Nothing is lost yet: "mobvibe session show ID" says why, "mobvibe session rescue ID > work.tar" copies the files out, "mobvibe session stop ID --discard-unsaved" gives them up.',
  version_not_found: 'See "mobvibe session events ID" for those that were saved.',
  version_damaged: 'Open one that is whole with "mobvibe session open ID --version N".',
  agent_unresponsive:
    'See "mobvibe session events ID"; a stop that saves is tried by "mobvibe session stop ID".',
  exec_lost: 'Look at what it did, then run it under another id.',
  no_capacity: 'Try again later, or with "mobvibe session stop" for one that is no longer needed.',
  image_failing: 'Whoever runs the controller finds the reason in its log and in the events of sessions.',
  too_many_starts: 'See "mobvibe session events ID" for why it does not stay up.',
  job_not_found: 'See "mobvibe job list".',
};

export function describeError(error: unknown): Complaint {
  if (error instanceof NoResultError) return describeError(error.cause);
  if (error instanceof MobVibeError) {
    const { code, detail, kind, field } = error;
    const hint = HINTS[code];
    return { code, detail, kind, ...(field && { field }), ...(hint && { hint }) };
  }
  const { message, code } = error as NodeJS.ErrnoException;
  // Of this computer: a file that can't be read, and the like.
  if (code !== undefined) return { code: 'local_file', detail: message };
  return { code: 'internal', detail: message };
}

/** `1 file`, `2 files`. */
export const counted = (count: number, one: string, many = `${one}s`) =>
  `${count} ${count === 1 ? one : many}`;

/** Rows under headings, in columns as wide as needed. */
export function table(headings: string[], rows: (string | number | null)[][]): string {
  const cells = [headings, ...rows.map((row) => row.map((cell) => String(cell ?? '-')))];
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
