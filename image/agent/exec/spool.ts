import type { SpoolBudget } from './budget.ts';
import { streamLimit } from './budget.ts';
import { Segments } from './segments.ts';

/** Short output never touches the disk. */
const SPILL_BYTES = 64 << 10;
/** So much is written at once when there is more. */
const BATCH_BYTES = 512 << 10;
/** Of an ended exec so little stays in memory. */
const REST_BYTES = 4 << 10;
/** The disk is slower than the process: the process has to wait. */
const CROWDED_BYTES = 2 << 20;
const STALLED_MS = 30_000;
/** A process that writes a byte at a time must not cost an object for each. */
const MANY_CHUNKS = 256;

/** A reader's place in the output. */
export interface Cursor {
  position: number;
  movedAt: number;
}

/** A stream's bytes by offset: the newest in memory, older ones on disk, the oldest dropped when there are too many. */
export class Spool {
  readonly #segments: Segments;
  readonly #budget: SpoolBudget;
  readonly #onRoom: () => void;
  readonly #cursors = new Set<Cursor>();
  #tail: Buffer[] = [];
  #tailFrom = 0;
  #spilling = false;
  #closed = false;
  #disposed = false;
  /** Offset of the first byte that is still kept. */
  start = 0;
  /** Bytes written until now. */
  end = 0;

  /** `onRoom` is called when bytes went to disk or were dropped, so that a paused process may go on. */
  constructor(base: string, budget: SpoolBudget, onRoom: () => void) {
    this.#segments = new Segments(base, budget.segmentBytes, budget);
    this.#budget = budget;
    this.#onRoom = onRoom;
  }

  get closed(): boolean {
    return this.#closed;
  }

  append(chunk: Buffer): void {
    if (this.#tail.length >= MANY_CHUNKS && !this.#spilling) this.#tail = [Buffer.concat(this.#tail)];
    this.#tail.push(chunk);
    this.end += chunk.length;
    const most = this.#tailFrom === 0 ? SPILL_BYTES : Math.min(BATCH_BYTES, this.#budget.segmentBytes);
    if (this.end - this.#tailFrom > most) void this.#spill(most);
  }

  /** No more bytes will come. */
  close(): void {
    this.#closed = true;
    void this.#spill(REST_BYTES);
  }

  /** Whether the process must wait before it may write more. Drops what nobody waits for. */
  full(now: number): boolean {
    while (this.end - this.start > streamLimit(this.#budget)) {
      const oldestEnd = this.#segments.oldestEnd;
      if (oldestEnd === undefined) break;
      if (this.#awaited(oldestEnd, now)) return true;
      this.#segments.dropOldest();
      this.start = oldestEnd;
    }
    return this.end - this.#tailFrom > CROWDED_BYTES;
  }

  attach(from: number, now: number): Cursor {
    const cursor = { position: Math.min(from, this.end), movedAt: now };
    this.#cursors.add(cursor);
    return cursor;
  }

  detach(cursor: Cursor): void {
    this.#cursors.delete(cursor);
  }

  /** Up to about `max` bytes from this offset on. Nothing: none yet, or dropped while they were read. */
  read(from: number, max: number): Buffer | undefined | Promise<Buffer | undefined> {
    if (from >= this.end || from < this.start) return undefined;
    return from < this.#tailFrom ? this.#segments.read(from, max) : this.#fromTail(from, max);
  }

  /** Gives up all bytes, in memory and on disk. */
  dispose(): void {
    this.#disposed = true;
    this.#segments.dropAll();
    this.#tail = [];
    this.start = this.end;
    this.#tailFrom = this.end;
  }

  #awaited(offset: number, now: number): boolean {
    for (const { position, movedAt } of this.#cursors) {
      if (position < offset && position >= this.start && now - movedAt < STALLED_MS) return true;
    }
    return false;
  }

  #fromTail(from: number, max: number): Buffer {
    let at = this.#tailFrom;
    const parts: Buffer[] = [];
    let bytes = 0;
    for (const chunk of this.#tail) {
      const skip = Math.max(0, from - at);
      at += chunk.length;
      if (skip >= chunk.length) continue;
      const part = chunk.subarray(skip, skip + max - bytes);
      parts.push(part);
      bytes += part.length;
      if (bytes >= max) break;
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Moves the tail to disk until no more than `leave` bytes are in memory. */
  async #spill(leave: number): Promise<void> {
    if (this.#spilling) return;
    this.#spilling = true;
    while (!this.#disposed && this.end - this.#tailFrom > (this.#closed ? REST_BYTES : leave)) {
      const parts = this.#tail.slice();
      const bytes = parts.reduce((sum, part) => sum + part.length, 0);
      const written = await this.#segments.append(this.#tailFrom, parts).then(
        () => true,
        () => false,
      );
      this.#tail.splice(0, parts.length);
      this.#tailFrom += bytes;
      // Without room on the disk these bytes are lost, and those before them are no longer contiguous with what follows.
      if (!written) {
        this.#segments.dropAll();
        this.start = this.#tailFrom;
      }
      this.#onRoom();
    }
    if (this.#closed) await this.#segments.close().catch(() => {});
    if (this.#disposed) this.#segments.dropAll();
    this.#spilling = false;
  }
}
