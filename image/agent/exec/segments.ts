import { type FileHandle, open, unlink } from 'node:fs/promises';
import type { SpoolBudget } from './budget.ts';

interface Segment {
  file: string;
  from: number;
  to: number;
}

/** The part of an output that lies on disk: files of a few MiB, the oldest of which can be dropped. */
export class Segments {
  readonly #base: string;
  readonly #bytesEach: number;
  readonly #budget: SpoolBudget;
  readonly #kept: Segment[] = [];
  #made = 0;
  /** Of the newest file, while more may follow. */
  #writing: FileHandle | undefined;

  constructor(base: string, bytesEach: number, budget: SpoolBudget) {
    this.#base = base;
    this.#bytesEach = bytesEach;
    this.#budget = budget;
  }

  /** Where the oldest file ends, or nothing where there is only the one being written. */
  get oldestEnd(): number | undefined {
    return this.#kept.length > 1 ? this.#kept[0]!.to : undefined;
  }

  /** Appends bytes that follow those written last. At most one call at a time. */
  async append(from: number, parts: Buffer[]): Promise<void> {
    let last = this.#kept.at(-1);
    if (last === undefined || last.to !== from || last.to - last.from >= this.#bytesEach) {
      await this.close();
      last = { file: `${this.#base}.${this.#made++}`, from, to: from };
      this.#writing = await open(last.file, 'wx', 0o600);
      this.#kept.push(last);
    }
    this.#writing ??= await open(last.file, 'r+');
    const { bytesWritten } = await this.#writing.writev(parts, last.to - last.from);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (bytesWritten !== bytes) throw Object.assign(new Error('The spool is full'), { code: 'ENOSPC' });
    last.to += bytes;
    this.#budget.used += bytes;
  }

  /** Nothing follows for now. */
  async close(): Promise<void> {
    const handle = this.#writing;
    this.#writing = undefined;
    await handle?.close();
  }

  /** Up to `max` bytes from this offset on; nothing where they were dropped meanwhile. */
  async read(from: number, max: number): Promise<Buffer | undefined> {
    const segment = this.#kept.find((each) => each.from <= from && from < each.to);
    if (segment === undefined) return undefined;
    const buffer = Buffer.allocUnsafe(Math.min(max, segment.to - from));
    const handle = await open(segment.file, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (handle === undefined) return undefined;
    try {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, from - segment.from);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  }

  dropOldest(): void {
    const segment = this.#kept.shift();
    if (segment === undefined) return;
    this.#budget.used -= segment.to - segment.from;
    // Failing to unlink costs room on the disk, which the budget's next measure will see; there is nobody to tell.
    unlink(segment.file).catch(() => {});
  }

  dropAll(): void {
    while (this.#kept.length > 0) this.dropOldest();
  }
}
