import { createHash } from 'node:crypto';
import { constants, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecEvent } from '../../../controller/agents/wire.ts';
import { log, messageOf } from '../log.ts';

/** Room is made in advance, so that a full disk does not make the agent forget what it has started. */
const ROOM_BYTES = 1 << 20;
const LOW_BYTES = 64 << 10;

export type ExecEnd = ExecEvent & { type: 'end' };

/** What is known of an exec that an earlier agent of this machine has started. */
export interface PastRecord {
  id: string;
  /** Hash of the command's key. */
  key: string;
  startedAt: number;
  /** Absent: it was running when the agent ended. */
  end?: ExecEnd;
  endedAt?: number;
}

type Line =
  | { start: string; key: string; at: number }
  /** It could not be started: the id is free again. */
  | { refused: string }
  | { ended: string; at: number; end: ExecEnd };

/** Each start and each end, written down in the agent's folder before anybody is told: for the agent after this one. */
export class Journal {
  /** Of earlier agents, by id. */
  readonly past: Map<string, PastRecord>;
  readonly #fd: number;
  #used: number;
  #room: number;

  constructor(stateDir: string) {
    const path = join(stateDir, 'execs.journal');
    this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    const bytes = readFileSync(path);
    const end = bytes.indexOf(0);
    this.#used = end < 0 ? bytes.length : end;
    this.#room = bytes.length;
    this.past = pastOf(bytes.toString('utf8', 0, this.#used));
    this.#makeRoom();
  }

  /** To be called before the command is started. */
  starts(id: string, key: string, at: number): void {
    this.#write({ start: id, key: hashOf(key), at });
  }

  refused(id: string): void {
    this.#write({ refused: id });
  }

  ended(id: string, at: number, end: ExecEnd): void {
    this.#write({ ended: id, at, end });
  }

  #write(line: Line): void {
    // What stands before may be a line that was cut off, for want of room.
    const bytes = Buffer.from(`\n${JSON.stringify(line)}\n`);
    try {
      this.#used += writeSync(this.#fd, bytes, 0, bytes.length, this.#used);
    } catch (error) {
      // It is better to run a command, perhaps the one that makes room, than to be ready for an agent that dies as well.
      log('warn', 'an exec is not in the journal', { detail: messageOf(error) });
    }
    if (this.#room - this.#used < LOW_BYTES) this.#makeRoom();
  }

  #makeRoom(): void {
    try {
      const from = Math.max(this.#room, this.#used);
      this.#room = from + writeSync(this.#fd, Buffer.alloc(ROOM_BYTES), 0, ROOM_BYTES, from);
    } catch {
      // Tried again with the next line.
    }
  }
}

export function hashOf(key: string): string {
  return createHash('sha256').update(key).digest('base64url');
}

/** Pure: what the lines say. The last one may have been cut off. */
function pastOf(text: string): Map<string, PastRecord> {
  const past = new Map<string, PastRecord>();
  for (const each of text.split('\n')) {
    const line = lineOf(each);
    if (line === undefined) continue;
    if ('start' in line) past.set(line.start, { id: line.start, key: line.key, startedAt: line.at });
    else if ('refused' in line) past.delete(line.refused);
    else {
      const record = past.get(line.ended);
      if (record !== undefined) past.set(line.ended, { ...record, end: line.end, endedAt: line.at });
    }
  }
  return past;
}

function lineOf(text: string): Line | undefined {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
