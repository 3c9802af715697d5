import type { Lease, MachineState } from '../wire.ts';

/** An answer other than 2xx, with Fly's status and words (measured or documented; see the source beside each). */
export class FlyError extends Error {
  override readonly name = 'FlyError';
  readonly status: number;
  readonly body: Record<string, unknown>;
  constructor(status: number, message: string, extra: Record<string, unknown> = {}) {
    super(message);
    this.status = status;
    this.body = { error: message, ...extra };
  }
}

/** Leases have an error body of their own. */
class LeaseError extends FlyError {
  override readonly body: Record<string, unknown>;
  constructor(status: number, message: string) {
    super(status, message);
    this.body = { status: 'error', message };
  }
}

export const unauthorized = () => new FlyError(401, 'unauthorized');
export const appForbidden = (app: string) => new FlyError(403, `not authorized to access app "${app}"`);
export const orgForbidden = (org: string) =>
  new FlyError(403, `not authorized to access organization "${org}"`);
export const rateLimited = () => new FlyError(429, 'rate limit exceeded');
export const unsupported = (what: string) => new FlyError(501, `local Fly does not support ${what}`);
export const invalidArgument = (what: string) => new FlyError(400, `invalid_argument: ${what}`);

/** Go's own words for a body of another type than the handler's. */
export const wrongJsonType = (found: string, goType: string) =>
  new FlyError(400, `json: cannot unmarshal ${found} into Go value of type ${goType}`);

export const appNotFound = (app: string) => new FlyError(404, `Could not find App "${app}"`);
export const appNameTaken = () =>
  new FlyError(422, 'Validation failed: Name has already been taken', { status: 'name_taken' });
export const appNameInvalid = () =>
  new FlyError(422, 'Validation failed: Name under 63 chars using numbers, lowercase letters and dashes');

export const machineNotFound = (id: string) => new FlyError(404, `not_found: machine not found: ${id}`);
export const machineNameTaken = (id: string, name: string) =>
  new FlyError(
    409,
    `already_exists: unique machine name violation, machine ID ${id} already exists with name "${name}"`,
  );
export const versionMismatch = (given: string, current: string) =>
  new FlyError(
    409,
    `aborted: machine version mismatch: current_version is ${given}, machine is at ${current}`,
  );

export const failedPrecondition = (what: string) => new FlyError(412, `failed_precondition: ${what}`);
export const cannotStart = (state: MachineState) =>
  failedPrecondition(`unable to start machine from current state: '${state}'`);
export const cannotDestroy = () =>
  failedPrecondition('unable to destroy machine, not currently stopped, suspended, failed or created');
export const cannotDo = (verb: string, state: MachineState) =>
  failedPrecondition(`unable to ${verb} machine from current state: '${state}'`);
export const notRunning = (state: MachineState) =>
  failedPrecondition(`machine not running, currently ${state}`);

/** Host trouble makes every change hang until flaps gives up on flyd. */
export const hostUnreachable = (id: string) =>
  new FlyError(408, `deadline_exceeded: host of machine ${id} is unreachable`);
export const execTimedOut = () => new FlyError(408, 'deadline_exceeded: exec did not finish in time');
export const waitTimedOut = (wanted: readonly string[], current: string) =>
  new FlyError(
    408,
    `deadline_exceeded: machine failed to reach desired state, ${wanted.join(', ')}, currently ${current}`,
  );
export const waitTimeoutOutOfRange = () =>
  invalidArgument('invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]');

export const leaseHeld = (id: string, lease: Lease) =>
  new LeaseError(
    409,
    `machine ID ${id} lease currently held by ${lease.owner}, expires at ${new Date(lease.expires_at * 1000).toISOString()}`,
  );
export const leaseNotFound = () => new LeaseError(404, 'lease not found');
