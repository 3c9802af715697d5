import type { WorkspaceStorage } from './storage.ts';

const MIB = 1024 * 1024;
/** An object of a pack; a plan that takes 50 MB takes it. */
export const MOST_OBJECT_BYTES = 32 * MIB;
/** Below this, files would be in too many pieces. */
export const LEAST_OBJECT_BYTES = MIB;
/** A limit that was changed is known after this time. */
const REMEMBER_MS = 300_000;

/** How large an object may be: as the storage says, and as it turns out. */
export class ObjectSize {
  readonly #storage: Pick<WorkspaceStorage, 'sizeLimit'>;
  readonly #clock: () => number;
  #limit: number | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;
  /** The storage refused larger ones, whatever it says. */
  #learned = MOST_OBJECT_BYTES;

  constructor(storage: Pick<WorkspaceStorage, 'sizeLimit'>, clock: () => number) {
    this.#storage = storage;
    this.#clock = clock;
  }

  /** Never fails: a storage that can't be asked now can't be written to either, and says so then. */
  async current(): Promise<number> {
    if (this.#clock() - this.#askedAt >= REMEMBER_MS) {
      this.#asking ??= this.#ask().finally(() => {
        this.#asking = undefined;
      });
      await this.#asking;
    }
    const least = Math.min(MOST_OBJECT_BYTES, this.#learned, this.#limit ?? MOST_OBJECT_BYTES);
    return Math.max(LEAST_OBJECT_BYTES, least);
  }

  /** The storage refused an object of so many bytes, when it was packed for `tried`. False: there is nothing smaller to try. */
  refused(bytes: number, tried: number): boolean {
    if (tried <= LEAST_OBJECT_BYTES) return false;
    const half = Math.floor(Math.min(bytes, tried) / 2);
    this.#learned = Math.max(LEAST_OBJECT_BYTES, Math.min(this.#learned, half));
    return this.#learned < tried;
  }

  async #ask(): Promise<void> {
    try {
      this.#limit = await this.#storage.sizeLimit();
      this.#askedAt = this.#clock();
    } catch {
      // Asked again by the next save.
    }
  }
}
