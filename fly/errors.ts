/**
 * Every call of the client rejects with one of these and nothing else. `kind` says whose move it is:
 *
 * | kind | meaning | then |
 * | --- | --- | --- |
 * | `mistake` | the request can't succeed as it stands | change it |
 * | `not_found` | the app, machine or lease does not exist | |
 * | `conflict` | something else stands in the way (name, lease, version) | read again, decide |
 * | `precondition` | the machine's state does not allow it | read again, decide |
 * | `capacity` | no room, in the `region` or on the `host` (`scope`) | another region or a new machine |
 * | `quota` | the organisation's machine limit | stop creating, tell a person |
 * | `rate` | refused for its rate, provably without effect | later |
 * | `auth` | the token is not valid or not allowed | |
 * | `platform` | Fly or the way to it failed, provably without effect | may be repeated |
 * | `unknown_outcome` | it may or may not have had its effect | look before repeating |
 */
export const FLY_ERROR_KINDS = [
  'mistake',
  'not_found',
  'conflict',
  'precondition',
  'capacity',
  'quota',
  'rate',
  'auth',
  'platform',
  'unknown_outcome',
] as const;

export type FlyErrorKind = (typeof FLY_ERROR_KINDS)[number];

/** What exactly, where a caller may want to tell cases of one kind apart. */
export type FlyErrorReason =
  /** conflict: the app's name is taken, by us or by somebody else */
  | 'name_taken'
  /** conflict: a live machine has this name; see `existingMachineId` */
  | 'unique_name'
  | 'lease_held'
  | 'version_mismatch'
  | 'concurrent_update'
  /** not_found: the app itself, so that nothing is said about the machine */
  | 'app_not_found'
  /** precondition: a passing state that ends by itself within seconds */
  | 'busy'
  /** The state that was waited for was not reached in the time given */
  | 'wait_timeout'
  /** mistake: the stand-in on this computer does not do this */
  | 'unsupported'
  /** The caller's signal */
  | 'aborted'
  /** No answer in the time given */
  | 'timeout'
  /** platform: no connection, nothing was sent */
  | 'unreachable'
  /** The connection broke before the whole answer was here */
  | 'disconnected'
  /** 2xx, but the body is not what it should be */
  | 'bad_reply';

export interface FlyErrorFields {
  /** The client's method, e.g. `createMachine`. */
  call: string;
  /** What it was about, e.g. `my-app/s-1-1`. */
  target?: string | undefined;
  /** Fly's own words, or ours; never a secret. */
  detail: string;
  reason?: FlyErrorReason | undefined;
  /** HTTP status; undefined when there was no answer. */
  status?: number | undefined;
  /** Header `fly-request-id`: Fly's support asks for it. */
  requestId?: string | undefined;
  /** How long to stay away, where that is known. */
  retryAfterMs?: number | undefined;
  /** The live machine that has the name asked for. */
  existingMachineId?: string | undefined;
  /** Of `capacity`: `region` elsewhere may have room, `host` a new machine may. */
  scope?: 'region' | 'host' | undefined;
  /** Of `mistake`: the field at fault, where we know it. */
  field?: string | undefined;
}

export abstract class FlyError extends Error {
  abstract readonly kind: FlyErrorKind;
  readonly call: string;
  readonly target: string | undefined;
  readonly detail: string;
  readonly reason: FlyErrorReason | undefined;
  readonly status: number | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly existingMachineId: string | undefined;
  readonly scope: 'region' | 'host' | undefined;
  readonly field: string | undefined;

  constructor(fields: FlyErrorFields) {
    const where = fields.target === undefined ? fields.call : `${fields.call} ${fields.target}`;
    const status = fields.status === undefined ? '' : ` (HTTP ${fields.status})`;
    super(`${where}: ${fields.detail}${status}`);
    this.call = fields.call;
    this.target = fields.target;
    this.detail = fields.detail;
    this.reason = fields.reason;
    this.status = fields.status;
    this.requestId = fields.requestId;
    this.retryAfterMs = fields.retryAfterMs;
    this.existingMachineId = fields.existingMachineId;
    this.scope = fields.scope;
    this.field = fields.field;
  }
}

export class FlyMistake extends FlyError {
  override readonly name = 'FlyMistake';
  override readonly kind = 'mistake';
}
export class FlyNotFound extends FlyError {
  override readonly name = 'FlyNotFound';
  override readonly kind = 'not_found';
}
export class FlyConflict extends FlyError {
  override readonly name = 'FlyConflict';
  override readonly kind = 'conflict';
}
export class FlyPrecondition extends FlyError {
  override readonly name = 'FlyPrecondition';
  override readonly kind = 'precondition';
}
export class FlyCapacity extends FlyError {
  override readonly name = 'FlyCapacity';
  override readonly kind = 'capacity';
}
export class FlyQuota extends FlyError {
  override readonly name = 'FlyQuota';
  override readonly kind = 'quota';
}
export class FlyRateLimited extends FlyError {
  override readonly name = 'FlyRateLimited';
  override readonly kind = 'rate';
}
export class FlyUnauthorized extends FlyError {
  override readonly name = 'FlyUnauthorized';
  override readonly kind = 'auth';
}
export class FlyPlatformFault extends FlyError {
  override readonly name = 'FlyPlatformFault';
  override readonly kind = 'platform';
}
export class FlyUnknownOutcome extends FlyError {
  override readonly name = 'FlyUnknownOutcome';
  override readonly kind = 'unknown_outcome';
}

const CLASSES = {
  mistake: FlyMistake,
  not_found: FlyNotFound,
  conflict: FlyConflict,
  precondition: FlyPrecondition,
  capacity: FlyCapacity,
  quota: FlyQuota,
  rate: FlyRateLimited,
  auth: FlyUnauthorized,
  platform: FlyPlatformFault,
  unknown_outcome: FlyUnknownOutcome,
} as const satisfies Record<FlyErrorKind, new (fields: FlyErrorFields) => FlyError>;

/** The error of this kind, of its own class. */
export function flyError(kind: FlyErrorKind, fields: FlyErrorFields): FlyError {
  return new CLASSES[kind](fields);
}
