import type { KnownCell } from '../store/index.ts';

/** All that the decision rests on. */
export interface SharesView {
  cells: readonly Pick<KnownCell, 'app' | 'holder' | 'free'>[];
  /** Controllers that are alive, this one among them. */
  controllers: readonly string[];
  /** Those of them that reach Fly. */
  able: readonly string[];
  me: string;
  /** The cells that this process holds. */
  held: ReadonlySet<string>;
}

/**
 * What this controller takes and what it gives back, so that each that is alive and reaches Fly comes to hold its fair share. Who holds more has
 * the larger share where it does not come out even: so that as little as possible changes hands. All that see the same come to the same shares.
 * One that does not reach Fly gives everything to those that do. Where none does, nobody could do better: nothing is given back, and only what
 * nobody works for is taken, as agents have to be with someone.
 */
export function planShares({ cells, controllers, able, me, held }: SharesView): {
  take: string[];
  giveBack: string[];
} {
  const alive = [...new Set([...controllers, me])];
  const fit = alive.filter((holder) => able.includes(holder));
  const order = (fit.length > 0 ? fit : alive)
    .map((holder) => ({ holder, count: holder === me ? held.size : countOf(cells, holder) }))
    .sort((a, b) => b.count - a.count || (a.holder < b.holder ? -1 : 1));
  const place = order.findIndex(({ holder }) => holder === me);
  const share =
    place < 0 ? 0 : Math.floor(cells.length / order.length) + (place < cells.length % order.length ? 1 : 0);
  const mine = cells.map(({ app }) => app).filter((app) => held.has(app));
  // Held from this address by a process that is gone: nobody else will take it before it expires.
  const toBeHad = cells.filter((cell) => !held.has(cell.app) && (cell.free || cell.holder === me));
  return {
    take: toBeHad.slice(0, Math.max(0, share - held.size)).map(({ app }) => app),
    giveBack: fit.length > 0 ? mine.slice(share) : [],
  };
}

function countOf(cells: SharesView['cells'], holder: string): number {
  return cells.filter((cell) => !cell.free && cell.holder === holder).length;
}
