/** Ids in one machine's user namespace, as `/etc/subuid` gives them out. */
export const RANGE_SIZE = 65_536;
/** Above what `useradd` and systemd give out, below 2^31. */
const FIRST = 0x7000_0000;
const SLOTS = 4095;

export interface IdSpan {
  first: number;
  count: number;
}

/** Reads `/etc/subuid` or `/etc/subgid`: `name:first:count` a line; anything else is passed over. */
export function parseSubids(text: string): IdSpan[] {
  return text.split('\n').flatMap((line) => {
    const [, first, count] = /^[^:#]+:(\d+):(\d+)$/.exec(line.trim()) ?? [];
    return first && count ? [{ first: Number(first), count: Number(count) }] : [];
  });
}

/** Gives each machine of real root a range of host ids that nobody else has: neither `reserved` nor another machine. */
export class UidRanges {
  readonly #reserved: IdSpan[];
  readonly #random: () => number;
  readonly #taken = new Set<number>();

  constructor(reserved: IdSpan[], random: () => number) {
    this.#reserved = reserved;
    this.#random = random;
  }

  /** First id of a free range. Starts looking at a random place, so that two engines seldom meet. */
  take(): number {
    const start = Math.floor(this.#random() * SLOTS);
    for (let step = 0; step < SLOTS; step++) {
      const base = FIRST + ((start + step) % SLOTS) * RANGE_SIZE;
      if (this.#taken.has(base) || this.#reserved.some((span) => overlaps(span, base))) continue;
      this.#taken.add(base);
      return base;
    }
    throw new RangeError(`All ${SLOTS} id ranges for machines are in use`);
  }

  free(base: number): void {
    this.#taken.delete(base);
  }
}

function overlaps(span: IdSpan, base: number): boolean {
  return span.first < base + RANGE_SIZE && base < span.first + span.count;
}
