import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SessionEvent } from '../client/index.ts';

/**
 * How a request ended for whoever sent it. `ack`: it was done. `refused`: it had no effect, says the API. `maybe`: nobody knows; the
 * connection broke, say.
 */
export type Outcome = 'ack' | 'refused' | 'maybe';

interface Asked {
  /** Of the session, counted from 1. */
  n: number;
  /** Unix milliseconds. */
  sent: number;
  ended: number;
  outcome: Outcome;
  /** Code of the error, or what broke. */
  code?: string;
}

/** A command that appends lines to `log.txt`, each once. Several entries with one `id` are repeats of one exec. */
export interface ExecEntry extends Asked {
  kind: 'exec';
  id: string;
  lines: string[];
  /** Sandbox that it ran in, says the answer. */
  incarnation?: number;
  /** `exited 0`, `signaled SIGKILL`, … */
  result?: string;
}

/** A file was written (by upload, or by an exec from its input) or removed (`value` null). */
export interface WriteEntry extends Asked {
  kind: 'write';
  path: string;
  /** As `observe` sees it; null: removed. */
  value: string | null;
  /** Where it came by an exec's input, half of it may be there when the exec did not end. */
  partial?: boolean;
}

/** A job was queued; it appends lines to `jobs.txt`. */
export interface JobEntry extends Asked {
  kind: 'job';
  id: string;
  lines: string[];
}

/** A job was seen to have ended. */
export interface JobEndEntry extends Asked {
  kind: 'job_end';
  id: string;
  status: string;
  result: string;
}

export interface SaveEntry extends Asked {
  kind: 'save';
}

export interface TurnEntry extends Asked {
  kind: 'open' | 'stop';
  /** The session's, in the answer. */
  status?: string;
  incarnation?: number;
  /** The caller gives up what can't be saved. */
  discard?: boolean;
}

/** All that was in the workspace at a moment between `sent` and `ended`. */
export interface ObserveEntry extends Asked {
  kind: 'observe';
  incarnation: number;
  seen: Seen;
}

export interface Seen {
  log: string[];
  jobs: string[];
  /** Value by path. */
  files: Record<string, string>;
  /** Absent where there is none. `problem`: what its own check complained of. */
  sqlite?: Kept;
  git?: Kept;
}

/** What writers in the background have made: rows, or commits. */
export interface Kept {
  count: number;
  problem?: string;
}

export type Entry = ExecEntry | WriteEntry | JobEntry | JobEndEntry | SaveEntry | TurnEntry | ObserveEntry;

/** An entry before it has its number. */
export type NewEntry = Entry extends infer E ? (E extends Entry ? Omit<E, 'n'> : never) : never;

/** All that is known of one session from outside. */
export interface SessionHistory {
  session: string;
  entries: Entry[];
  /** The API's own, oldest first; fetched in the end. */
  events: SessionEvent[];
}

/** What one session's client has seen. Each entry is on disk before its client goes on. */
export class History {
  readonly session: string;
  readonly entries: Entry[] = [];
  readonly #file: string;

  constructor(folder: string, session: string) {
    this.session = session;
    this.#file = join(folder, `${session}.ndjson`);
  }

  add(entry: NewEntry): void {
    const numbered = { n: this.entries.length + 1, ...entry } as Entry;
    appendFileSync(this.#file, `${JSON.stringify(numbered)}\n`);
    this.entries.push(numbered);
  }
}
