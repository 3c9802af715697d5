/** npm passes on a signal that the terminal has sent to everyone already: what arrives so soon after another is the same key press. */
const SAME_PRESS_MS = 1_000;

/** Tells key presses from signals. `now`: milliseconds from any origin. */
export class Presses {
  #last: number | undefined;
  #count = 0;

  /** Which press this signal is, from 1; 0 where it belongs to the one before. */
  add(now: number): number {
    if (this.#last !== undefined && now - this.#last < SAME_PRESS_MS) return 0;
    this.#last = now;
    this.#count += 1;
    return this.#count;
  }
}
