import type { FlyErrorKind, FlyErrorReason } from './errors.ts';

/**
 * What a call does on Fly's side, which decides what a failure means and what may be repeated: `none` it only
 * reads · `repeatable` doing it twice leaves the same state · `once` doing it twice does it twice.
 */
export type Effect = 'none' | 'repeatable' | 'once';

/** How one attempt ended without the answer that was hoped for. */
export type Failure =
  /** Fly, or a proxy before it, answered. `code` is the JSON body's `status` where it is a word. */
  | { type: 'reply'; status: number; code?: string | undefined; text: string }
  /** 2xx, but the body can't be read as what it should be. */
  | { type: 'bad_reply' }
  /** No connection was made, so nothing was sent. */
  | { type: 'never_sent' }
  /** Connected, then no (whole) answer: reset, closed, time over, or given up by the caller. */
  | { type: 'no_answer'; why: 'disconnected' | 'timeout' | 'aborted' };

export interface Diagnosis {
  kind: FlyErrorKind;
  reason?: FlyErrorReason;
  scope?: 'region' | 'host';
  existingMachineId?: string;
}

/**
 * What a failed attempt means. Pure; the table of cases is `test/fly/classify.test.ts`.
 *
 * Fly's status codes are not enough: a 409 is a lease, a version, a name, or a full host, and a lack of room
 * comes as 409, 412, 422 or 503. The words come from flyd and are not documented, so we look for the few that
 * carry the meaning and never for whole sentences. Sources: error tests of superfly/fly-go and flyctl, live
 * measurements of 2026-09, community.fly.io t/15555.
 *
 * The order matters: words of capacity come first as they can stand under any status; 'concurrent update' is
 * told before them because it shares the prefix `aborted:` with them and is no lack of room.
 */
export function classify(effect: Effect, failure: Failure): Diagnosis {
  if (failure.type === 'never_sent') return { kind: 'platform', reason: 'unreachable' };
  if (failure.type === 'bad_reply') return { kind: failed(effect), reason: 'bad_reply' };
  if (failure.type === 'no_answer') return { kind: failed(effect), reason: failure.why };

  const { status, code, text } = failure;
  const says = (words: RegExp): boolean => words.test(text);

  if (status === 429) return { kind: 'rate' };
  if (status === 401 || status === 403) return { kind: 'auth' };
  if (status === 404) {
    return says(/could not find app/i)
      ? { kind: 'not_found', reason: 'app_not_found' }
      : { kind: 'not_found' };
  }
  if (status === 408) {
    // A wait that ended without its state, told from flaps' own deadline towards the host, which says nothing
    // of the machine.
    if (says(/failed to reach desired state/i)) return { kind: 'platform', reason: 'wait_timeout' };
    return { kind: failed(effect), reason: 'timeout' };
  }
  if (says(/concurrent update/i)) return { kind: 'conflict', reason: 'concurrent_update' };
  if (says(/machine limit/i)) return { kind: 'quota' };

  const scope = lackOfRoom(code, text);
  if (scope !== undefined) return { kind: 'capacity', scope };

  if (status === 409) return conflict(text);
  if (status === 412) {
    return says(BUSY) ? { kind: 'precondition', reason: 'busy' } : { kind: 'precondition' };
  }
  if (status === 422 && (code === 'name_taken' || says(/already been taken|uniqueness constraint/i))) {
    return { kind: 'conflict', reason: 'name_taken' };
  }
  // Only the stand-in on this computer answers so: it says what it does not do.
  if (status === 501) return { kind: 'mistake', reason: 'unsupported' };
  if (status >= 500) return { kind: failed(effect) };
  return { kind: 'mistake' };
}

/** A failure after which a read has provably changed nothing, while of anything else we can't know. */
function failed(effect: Effect): FlyErrorKind {
  return effect === 'none' ? 'platform' : 'unknown_outcome';
}

/**
 * States that pass by themselves: right after a stop, or while an update replaces the machine (flyctl retries
 * these, too).
 */
const BUSY =
  /still active|getting replaced|current state: '(?:replacing|stopping|updating|restarting|suspending)'/i;

/** `host`: this machine's (or volume's) host is full, a new machine elsewhere is not affected. */
const HOST_FULL =
  /current host|could not reserve resource|existing volume|insufficient ips|deploys to this host|governor policy/i;
const REGION_FULL = /could not find a candidate host|no capacity|out of capacity|insufficient resources/i;

function lackOfRoom(code: string | undefined, text: string): 'region' | 'host' | undefined {
  if (code === 'volume_placement_capacity' || HOST_FULL.test(text)) return 'host';
  if (code === 'insufficient_capacity' || REGION_FULL.test(text)) return 'region';
  return undefined;
}

function conflict(text: string): Diagnosis {
  if (/unique machine name violation/i.test(text)) {
    const id = /machine ID ([0-9a-z]+)/i.exec(text)?.[1];
    return {
      kind: 'conflict',
      reason: 'unique_name',
      ...(id === undefined ? {} : { existingMachineId: id }),
    };
  }
  if (/\blease\b/i.test(text)) return { kind: 'conflict', reason: 'lease_held' };
  if (/version/i.test(text)) return { kind: 'conflict', reason: 'version_mismatch' };
  if (/already been taken|already exists/i.test(text)) return { kind: 'conflict', reason: 'name_taken' };
  return { kind: 'conflict' };
}
