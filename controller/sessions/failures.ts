import { FlyError } from '../../fly/index.ts';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';
import type { Failure } from '../store/index.ts';
import type { MachineView } from './machines.ts';

/**
 * A sandbox row keeps why it left `ready` as one text. That of a failure begins with its code, so that whoever finishes the row,
 * perhaps after a crash, can tell the session what went wrong.
 */
export function failureReason(failure: Failure): string {
  return `failed ${failure.code}: ${failure.detail}`;
}

/** The failure in a row's reason; null where it was stopped as asked. */
export function parseFailure(reason: string | null): Failure | null {
  const parts = /^failed ([a-z_]+): (.*)$/s.exec(reason ?? '');
  return parts === null || !Object.hasOwn(ERRORS, parts[1]!) ? null : { code: parts[1]!, detail: parts[2]! };
}

/** Any error as a failure of ours. */
export function asFailure(error: unknown): Failure {
  if (error instanceof CodedError) return { code: error.code, detail: error.detail };
  if (error instanceof FlyError) return { code: flyCode(error), detail: error.message };
  return { code: 'internal', detail: error instanceof Error ? error.message : String(error) };
}

/** Why a machine that has ended did so, as far as Fly says: `out_of_memory` where the kernel ended it for that, else `machine_lost`. */
export function machineLost(machine: MachineView | null, what: string): Failure {
  const detail = `${what}; it is ${machine?.state ?? 'gone'}`;
  if (machine?.exit?.oomKilled) return { code: 'out_of_memory', detail: `${detail}: its memory was used up` };
  const code = machine?.exit?.code;
  return { code: 'machine_lost', detail: code === undefined ? detail : `${detail}, exit code ${code}` };
}

export function toCodedError(failure: Failure): CodedError {
  const code = Object.hasOwn(ERRORS, failure.code) ? (failure.code as ErrorCode) : 'internal';
  return new CodedError(code, failure.detail);
}

/**
 * What a failed create means for the start: `final` ends it now, since waiting won't help; `later` tries the same name again until the
 * start's deadline. Pure; Fly docs and reports on what passes by itself: capacity on a host may, an organisation's limit won't.
 */
export function judgeCreate(error: unknown, tries: number): 'final' | 'later' {
  if (!(error instanceof FlyError)) return 'final';
  switch (error.kind) {
    case 'mistake':
    case 'auth':
    case 'quota':
    case 'not_found':
      return 'final';
    case 'capacity':
      return tries >= MOST_CAPACITY_TRIES ? 'final' : 'later';
    case 'conflict':
    case 'precondition':
    case 'rate':
    case 'platform':
    case 'unknown_outcome':
      return 'later';
  }
}

/** Room comes and goes within seconds on one host; a region that is full stays so for longer than a user waits. */
const MOST_CAPACITY_TRIES = 3;

function flyCode(error: FlyError): ErrorCode {
  switch (error.kind) {
    case 'capacity':
      return 'fly_capacity';
    case 'quota':
      return 'fly_quota';
    case 'rate':
      return 'fly_rate_limited';
    case 'mistake':
    case 'not_found':
    case 'conflict':
    case 'precondition':
      return 'session_start_failed';
    case 'auth':
    case 'platform':
    case 'unknown_outcome':
      return 'fly_unavailable';
  }
}
