import type { Action } from './actions.ts';
import { FlyError, invalidArgument } from './rules/errors.ts';
import type { JsonObject } from './rules/json.ts';
import type { MachineRecord } from './wire.ts';

/** Which calls a fault meets; what is left out matches everything. */
export interface FaultScope {
  app?: string;
  /** Machine id. */
  machine?: string;
  /** Machine name, also that of a create. */
  name?: string;
  /** Of the request, where an action has several: e.g. `POST` for setting secrets and not for listing them. */
  method?: string;
  /** So many matching calls meet it. Default 1. */
  times?: number;
}

export type Fault = FaultScope &
  (
    | /** The work is done, but the connection is cut instead of an answer. */ {
        kind: 'lost_answer';
        action: Action;
      }
    | /** Answered with this instead of the work, or with `done` after it: e.g. 408, 429, 502. */ {
        kind: 'answer';
        action: Action;
        status: number;
        error: string;
        /** `status` of the body, e.g. `insufficient_capacity`. */
        code?: string;
        done?: boolean;
      }
    | /** No room, in one of Fly's dialects. */ {
        kind: 'capacity';
        reason: CapacityReason;
        action?: 'machine.create' | 'machine.start' | 'machine.update';
      }
    | /** A list answers as of the moment when the fault was added, or as if there were nothing. */ {
        kind: 'stale_list' | 'empty_list';
      }
    | /** The machine stays in this state until it is stopped or destroyed. */ {
        kind: 'stuck';
        state: 'created' | 'starting';
      }
  );

/** Status, words and scope as collected from fly-go's tests and production controllers. */
export const capacityAnswers = {
  region: { status: 422, error: 'could not find a candidate host', code: 'insufficient_capacity' },
  host: {
    status: 409,
    error:
      'aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host',
  },
  memory: {
    status: 409,
    error: 'aborted: insufficient resources available to fulfill request: insufficient memory available',
  },
  ips: { status: 409, error: 'aborted: insufficient IPs available to fulfill request' },
  none: { status: 409, error: 'aborted: no capacity' },
  governor: { status: 409, error: 'governor policy blocked start' },
  machine_limit: {
    status: 422,
    error: 'Your organization has reached its machine limit. Please contact billing@fly.io',
  },
  out_of_capacity: { status: 503, error: 'out of capacity', code: 'insufficient_capacity' },
} as const;

export type CapacityReason = keyof typeof capacityAnswers;

const kinds: readonly string[] = [
  'lost_answer',
  'answer',
  'capacity',
  'stale_list',
  'empty_list',
  'stuck',
] satisfies Fault['kind'][];

/** A fault as it comes over the wire. Throws 400 for one that could never be met as it stands. */
export function parseFault(body: JsonObject): Fault {
  const { kind, reason, state, status } = body;
  const wrong = (field: string) => invalidArgument(`${field}: ${JSON.stringify(body[field])} is not known`);
  if (!kinds.includes(kind as string)) throw wrong('kind');
  if (kind === 'capacity' && !(String(reason) in capacityAnswers)) throw wrong('reason');
  if (kind === 'stuck' && state !== 'created' && state !== 'starting') throw wrong('state');
  if (kind === 'answer' && !Number.isInteger(status)) throw wrong('status');
  if ((kind === 'answer' || kind === 'lost_answer') && typeof body.action !== 'string') throw wrong('action');
  return body as unknown as Fault;
}

/** What a call is about, as far as known when it arrives. */
export interface Target {
  app?: string;
  machine?: string;
  name?: string;
  method?: string;
}

export type AnswerFault = { lost: true } | { lost: false; done: boolean; error: FlyError };

interface Pending {
  fault: Fault;
  left: number;
  /** For `stale_list`. */
  machines: MachineRecord[];
}

/** Faults that were switched on and have not been met yet, oldest first. */
export class Faults {
  readonly #machines: () => MachineRecord[];
  #pending: Pending[] = [];

  constructor(machines: () => MachineRecord[]) {
    this.#machines = machines;
  }

  add(fault: Fault): void {
    const machines = fault.kind === 'stale_list' ? structuredClone(this.#machines()) : [];
    this.#pending.push({ fault, left: fault.times ?? 1, machines });
  }

  clear(): void {
    this.#pending = [];
  }

  /** Those still to be met, with the number of times that is left. */
  pending(): Fault[] {
    return this.#pending.map(({ fault, left }) => ({ ...fault, times: left }));
  }

  takeAnswer(action: Action, target: Target): AnswerFault | undefined {
    const fault = this.#take(target, (candidate) => {
      if (candidate.kind === 'capacity') return (candidate.action ?? 'machine.create') === action;
      return (candidate.kind === 'answer' || candidate.kind === 'lost_answer') && candidate.action === action;
    })?.fault;
    if (!fault) return undefined;
    if (fault.kind === 'lost_answer') return { lost: true };
    const answer: { status: number; error: string; code?: string; done?: boolean } =
      fault.kind === 'capacity'
        ? capacityAnswers[fault.reason]
        : (fault as Extract<Fault, { kind: 'answer' }>);
    const error = new FlyError(answer.status, answer.error, answer.code ? { status: answer.code } : {});
    return { lost: false, done: answer.done ?? false, error };
  }

  /** The machines that a list shows instead of the true ones. */
  takeList(app: string | undefined): MachineRecord[] | undefined {
    return this.#take({ app }, ({ kind }) => kind === 'stale_list' || kind === 'empty_list')?.machines;
  }

  takeStuck(state: 'created' | 'starting', machine: MachineRecord): boolean {
    const target = { app: machine.app, machine: machine.id, name: machine.name };
    return this.#take(target, (fault) => fault.kind === 'stuck' && fault.state === state) !== undefined;
  }

  #take(target: Target, isMet: (fault: Fault) => boolean): Pending | undefined {
    const found = this.#pending.find(({ fault }) => isMet(fault) && inScope(fault, target));
    if (found && --found.left === 0) this.#pending = this.#pending.filter((pending) => pending !== found);
    return found;
  }
}

function inScope(scope: FaultScope, target: Target): boolean {
  return (['app', 'machine', 'name', 'method'] as const).every(
    (key) => scope[key] === undefined || scope[key] === target[key],
  );
}
