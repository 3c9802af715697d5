const HOUR_MS = 3_600_000;
/** A preview that is wanted for longer is renewed by another `up`. */
const MOST_HOURS = 14 * 24;

/** RFC 3339, whole seconds. */
export function expiryAfter(hours: number, now: Date): string {
  if (!Number.isFinite(hours) || hours <= 0 || hours > MOST_HOURS) {
    throw new Error(`--ttl-hours is "${hours}": more than 0 and at most ${MOST_HOURS}`);
  }
  return new Date(now.getTime() + hours * HOUR_MS).toISOString().replace(/\.\d+Z$/, 'Z');
}

/**
 * `unreadable` where the tag is missing or is no time: made by hand, or an `up` that ended between the stack and its tag. Such a stack
 * is never reaped; it is reported, for a person to look.
 */
export type Life = 'alive' | 'expired' | 'unreadable';

export function lifeOf(expiresAt: string | undefined, now: Date): Life {
  if (expiresAt === undefined || !/^\d{4}-\d\d-\d\dT/.test(expiresAt)) return 'unreadable';
  const time = Date.parse(expiresAt);
  if (Number.isNaN(time)) return 'unreadable';
  return time <= now.getTime() ? 'expired' : 'alive';
}

/** `3 h`, `5 d`: for people. */
export function roughly(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 90) return `${minutes} min`;
  return minutes < 72 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 60 / 24)} d`;
}
