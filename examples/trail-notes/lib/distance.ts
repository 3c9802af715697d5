export type Units = 'kilometres' | 'miles';

const METRES_PER_MILE = 1609.344;

/** One decimal above a kilometre or mile, whole metres or yards below. */
export function formatDistance(metres: number, units: Units): string {
  if (!Number.isFinite(metres) || metres < 0) throw new RangeError(`metres must be 0 or more, got ${metres}`);
  if (units === 'miles') {
    const miles = metres / METRES_PER_MILE;
    return miles < 1 ? `${Math.round(metres / 0.9144)} yd` : `${miles.toFixed(1)} mi`;
  }
  return metres < 1000 ? `${Math.round(metres)} m` : `${(metres / 1000).toFixed(1)} km`;
}
