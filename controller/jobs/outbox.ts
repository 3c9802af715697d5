import type { ExecProgress } from '../sessions/exec.ts';
import { KEPT_OUTPUT_BYTES, type OutputChunk } from '../store/index.ts';

/** Output waits so long at most before it is written, for more to join it. */
const FLUSH_MS = 200;
/** A chunk that has grown to this many bytes is not waited with. */
const FULL_BYTES = 64 * 1024;

/**
 * Gathers an exec's output into rows. Rows are written one after another in the order of their bytes; whoever adds waits while a full
 * row is being written, so that an exec is read no faster than the database takes its output.
 */
export class Outbox {
  readonly #write: (chunk: OutputChunk) => Promise<void>;
  #waiting: OutputChunk[] = [];
  #waitingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(write: (chunk: OutputChunk) => Promise<void>) {
    this.#write = write;
  }

  /** Rejects with what an earlier write failed with. */
  async add(event: ExecProgress): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (event.type !== 'stdout' && event.type !== 'stderr') return;
    // A flood goes by as fast as it comes: what would be dropped there is not sent.
    if (event.offset >= KEPT_OUTPUT_BYTES) return;
    const encoding = event.encoding ?? 'utf8';
    const last = this.#waiting.at(-1);
    // Two pieces of base64 can't simply be joined: each has its own padding.
    if (
      encoding === 'utf8' &&
      last?.stream === event.type &&
      last.encoding === 'utf8' &&
      follows(last, event.offset)
    ) {
      last.data += event.data;
    } else {
      this.#waiting.push({ stream: event.type, offset: event.offset, data: event.data, encoding });
    }
    this.#waitingBytes += event.data.length;
    if (this.#waitingBytes >= FULL_BYTES) return this.flush();
    this.#timer ??= setTimeout(() => {
      this.flush().catch(() => undefined);
    }, FLUSH_MS);
  }

  /** Resolves when all that was added is written. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const chunks = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#writing = this.#writing.then(async () => {
      for (const chunk of chunks) await this.#write(chunk);
    });
    try {
      await this.#writing;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** Forgets what is not written yet. */
  abandon(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }
}

function follows(chunk: OutputChunk, offset: number): boolean {
  return chunk.offset + Buffer.byteLength(chunk.data) === offset;
}
