import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type Content, pieces, type Reader } from './hashes.ts';

/** Contents of files set aside one behind the other in a file of the agent's: quickly, while the user's processes stand still. */
export class Held implements Disposable {
  readonly #fd: number;
  readonly #places = new Map<string, { at: number; size: number }>();
  #end = 0;

  constructor(at: string) {
    this.#fd = openSync(at, 'wx+', 0o600);
    unlinkSync(at);
  }

  has(sha256: string): boolean {
    return this.#places.has(sha256);
  }

  /** Reads a content by `read`, which says what it was, and sets it aside where it isn't already. */
  async take(
    read: (each: Reader) => Promise<Content>,
    isKnown: (sha256: string) => boolean,
  ): Promise<Content> {
    let at = this.#end;
    const content = await read((piece) => {
      for (let done = 0; done < piece.length; ) {
        done += writeSync(this.#fd, piece, done, piece.length - done, at + done);
      }
      at += piece.length;
    });
    // Otherwise the next one is written over it.
    if (!this.has(content.sha256) && !isKnown(content.sha256)) {
      this.#places.set(content.sha256, { at: this.#end, size: content.size });
      this.#end = at;
    }
    return content;
  }

  /** The bytes of a content that was set aside. */
  async *bytes(sha256: string): AsyncGenerator<Buffer> {
    const place = this.#places.get(sha256);
    if (place === undefined) throw new Error(`${sha256} was not set aside`);
    await using handle: FileHandle = await open(`/proc/self/fd/${this.#fd}`);
    yield* pieces(handle, place.size, place.at);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
