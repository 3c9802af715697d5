import type { Entry, SessionHistory } from '../history.ts';
import { type Life, livesOf, reached } from './lives.ts';

/**
 * What an acknowledgement is worth in a given sandbox of the session. `must`: what it made has to be there. `may`: a loss was announced that
 * covers it.
 */
export type Worth = 'must' | 'may';

/** What of a session's history has to be found in each of its sandboxes. Pure. */
export class Promises {
  readonly lives: Life[];
  /** From when on what was acknowledged in an incarnation is covered by its loss; absent where nothing was lost. */
  readonly #lostSince = new Map<number, number>();

  constructor({ entries, events }: Pick<SessionHistory, 'entries' | 'events'>) {
    this.lives = livesOf(events);
    for (const life of this.lives) {
      if (life.loss !== undefined) this.#lostSince.set(life.incarnation, floorOf(life, entries));
    }
  }

  /** Of something acknowledged, for a look into incarnation `at`. */
  worth(
    entry: { sent: number; ended: number; incarnation?: number },
    at: number,
    seenSent = Number.POSITIVE_INFINITY,
  ): Worth {
    if (entry.ended > seenSent) return 'may';
    const lives = reached(this.lives, entry);
    const kept = lives.every(({ incarnation }) => {
      // Whatever becomes of a sandbox later, in it everything is there.
      if (incarnation >= at) return true;
      const since = this.#lostSince.get(incarnation);
      return since === undefined || entry.ended < since;
    });
    return kept ? 'must' : 'may';
  }

  life(incarnation: number): Life | undefined {
    return this.lives.find((life) => life.incarnation === incarnation);
  }
}

/** Everything acknowledged before this was saved: the last save that was answered had begun later. */
function floorOf(life: Life, entries: readonly Entry[]): number {
  let floor = life.readyAt ?? Number.POSITIVE_INFINITY;
  for (const entry of entries) {
    if (entry.kind !== 'save' || entry.outcome !== 'ack') continue;
    const lives = entry.sent >= floor && entry.ended <= life.loss!.at;
    if (lives) floor = entry.sent;
  }
  return floor;
}
