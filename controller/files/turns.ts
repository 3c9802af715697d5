/**
 * So many calls at once and no more. Who wants many does not go before who wants one: the next turn is always that of the name that has
 * waited longest since its last.
 */
export class FairTurns {
  readonly #atOnce: number;
  readonly #waiting = new Map<string, (() => void)[]>();
  #taken = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (this.#taken < this.#atOnce) this.#taken += 1;
    else await new Promise<void>((resolve) => this.#queue(name).push(resolve));
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  /** The work for each item, in any order; the outcomes in that of the items. After one that failed, none begins. */
  async each<Item, T>(name: string, items: readonly Item[], work: (item: Item) => Promise<T>): Promise<T[]> {
    const outcomes: T[] = [];
    let next = 0;
    let failed = false;
    const worker = async () => {
      while (next < items.length && !failed) {
        const at = next++;
        try {
          outcomes[at] = await this.run(name, () => work(items[at]!));
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#atOnce, items.length) }, worker));
    return outcomes;
  }

  #queue(name: string): (() => void)[] {
    const queue = this.#waiting.get(name) ?? [];
    this.#waiting.set(name, queue);
    return queue;
  }

  /** The turn goes to the first name in line, which then goes to its end. */
  #next(): void {
    const first = this.#waiting.entries().next();
    if (first.done) {
      this.#taken -= 1;
      return;
    }
    const [name, queue] = first.value;
    const begin = queue.shift()!;
    this.#waiting.delete(name);
    if (queue.length > 0) this.#waiting.set(name, queue);
    begin();
  }
}
