import { Readable } from 'node:stream';
import { MobVibeError } from './errors.ts';

/** What is sent in one request at most. */
const PIECE_BYTES = 1024 * 1024;

/** The command no longer takes input: nothing that the sender did wrong. */
const NO_LONGER_READING = new Set<string>(['exec_ended', 'exec_not_found']);

/** Sends bytes from an offset on and says how many the command has received in all. */
export type SendPiece = (
  offset: number,
  data: Uint8Array,
  end: boolean,
  options: { signal?: AbortSignal },
) => Promise<number>;

/** The input of a command that was started with `stdin: true`. Writes are sent in the order they were called in. */
export class ExecStdin {
  readonly #send: SendPiece;
  #offset: number | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  /** `offset`: how much was sent before; unknown for a command that someone else started. */
  constructor(send: SendPiece, offset: number | undefined) {
    this.#send = send;
    this.#offset = offset;
  }

  /** Resolves when the sandbox has taken all of it. Rejects with `exec_ended` when the command no longer runs. */
  write(data: string | Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#next(async () => {
      const bytes = Buffer.from(data);
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        await this.#piece(bytes.subarray(at, at + PIECE_BYTES), false, options);
      }
    });
  }

  /** Closes the input: the command sees its end. */
  end(options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#next(() => this.#piece(Buffer.alloc(0), true, options));
  }

  async #piece(data: Uint8Array, end: boolean, options: { signal?: AbortSignal }): Promise<void> {
    // Nothing sent from offset 0 is a question: how much is there already?
    this.#offset ??= await this.#send(0, Buffer.alloc(0), false, options);
    await this.#send(this.#offset, data, end, options);
    this.#offset += data.length;
  }

  #next(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {});
    return done;
  }
}

/**
 * Feeds a command all of a string, of bytes or of a stream, and closes its input. Returns quietly when the command ends before
 * it has read everything, or when `signal` is raised.
 */
export async function feed(
  stdin: ExecStdin,
  input: string | Uint8Array | Readable,
  signal?: AbortSignal,
): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  const stop = () => {
    if (input instanceof Readable) input.destroy();
  };
  signal?.addEventListener('abort', stop, { once: true });
  try {
    if (input instanceof Readable) for await (const data of input) await stdin.write(data, options);
    else await stdin.write(input, options);
    await stdin.end(options);
  } catch (error) {
    if (signal?.aborted) return;
    if (error instanceof MobVibeError && NO_LONGER_READING.has(error.code)) return;
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
