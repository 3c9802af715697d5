import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import type { ExecSpec } from '../agents/wire.ts';
import { CodedError } from '../errors.ts';
import type { ExecRow, NewExec, RegisteredExec } from '../store/execs.ts';
import type { Store } from '../store/index.ts';
import type { ExecEnd } from './exec.ts';
import { EndRecorder } from './exec-ends.ts';
import { pause } from './pause.ts';

export interface ExecRegistryDeps {
  store: Pick<Store, 'registerExecs' | 'withdrawExec' | 'findExec' | 'recordExecEnds'>;
  log: Logger;
}

/** So many calls are under way at most; what comes meanwhile goes together with the next one. */
const CALLS_AT_ONCE = 2;
const MOST_IN_A_CALL = 200;

interface Waiting {
  exec: NewExec;
  settle: PromiseWithResolvers<RegisteredExec>;
}

/** The ids of execs live as long as their session: what an id stands for is written down before any agent hears of it. */
export class ExecRegistry {
  readonly #deps: ExecRegistryDeps;
  readonly #ends: EndRecorder;
  readonly #waiting: Waiting[] = [];
  #calls = 0;

  constructor(deps: ExecRegistryDeps) {
    this.#deps = deps;
    this.#ends = new EndRecorder(deps);
  }

  /** Resolves once the row is committed. Rejects where the session is not open, or is at another sandbox. */
  register(exec: NewExec): Promise<RegisteredExec> {
    const settle = Promise.withResolvers<RegisteredExec>();
    this.#waiting.push({ exec, settle });
    if (this.#calls < CALLS_AT_ONCE) void this.#send();
    return settle.promise;
  }

  /** The start has failed with this error. Where it provably did not happen, the id may be used again as if it never had been. */
  async startFailed({ created, exec }: RegisteredExec, error: unknown): Promise<void> {
    if (!created || !provesNoStart(error)) return;
    const { session_id: sessionId, id, incarnation } = exec;
    await this.#deps.store.withdrawExec({ sessionId, id, incarnation }).catch((reason) => {
      this.#deps.log.warn({ err: reason, session: sessionId, exec: id }, 'an exec id stays taken');
    });
  }

  find(sessionId: string, id: string): Promise<ExecRow | null> {
    return this.#deps.store.findExec(sessionId, id);
  }

  /** Writes the end down soon; whoever reads the exec's stream does not wait for it. */
  ended(sessionId: string, id: string, end: ExecEnd): void {
    this.#ends.add(sessionId, id, end);
  }

  /** Resolves when all ends that were handed in are written down, or could not be, or the time is over. */
  async flush(mostMs: number): Promise<void> {
    const enough = new AbortController();
    await Promise.race([this.#ends.settled(), pause(mostMs, enough.signal)]);
    enough.abort();
  }

  async #send(): Promise<void> {
    this.#calls += 1;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, MOST_IN_A_CALL);
      try {
        const answers = await this.#deps.store.registerExecs(batch.map(({ exec }) => exec));
        for (const [at, { settle }] of batch.entries()) {
          const answer = answers[at]!;
          if (answer instanceof CodedError) settle.reject(answer);
          else settle.resolve(answer);
        }
      } catch (error) {
        // No command was started: that an id may be taken now is no effect, as it is free for the same command.
        const reason =
          error instanceof CodedError && error.code === 'database_lost'
            ? new CodedError('database_unavailable', error.detail, { cause: error })
            : error;
        for (const { settle } of batch) settle.reject(reason);
      }
    }
    this.#calls -= 1;
  }
}

/** Equal for equal commands, whatever the order of their fields. A hash, as the environment may hold secrets. */
export function commandKey({ command, cwd = '', env = {}, timeout_ms, stdin = false }: ExecSpec): string {
  const variables = Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([command, cwd, variables, timeout_ms, stdin]))
    .digest('hex');
}

/** The agent knows this id: it runs, or has run. */
const KNOWN_TO_AGENT = new Set<string>(['exec_conflict', 'exec_ended']);

/** Whether an agent that was asked to start an exec has certainly not done so. */
export function provesNoStart(error: unknown): boolean {
  return error instanceof CodedError && error.kind !== 'unknown' && !KNOWN_TO_AGENT.has(error.code);
}

/**
 * Who answers for an exec: `agent` where it belongs to the present sandbox (null: there is none), `row` where its end was seen in an
 * earlier one. Throws `exec_conflict` for another command, `exec_lost` where nobody saw its end. `key` null: whichever command it was.
 */
export function whoAnswers(row: ExecRow, key: string | null, present: number | null): 'agent' | 'row' {
  const { id, incarnation, command_key, end } = row;
  if (key !== null && key !== command_key) {
    const detail = `Exec ${id} exists with another command or other settings, in sandbox ${incarnation} of the session`;
    throw new CodedError('exec_conflict', detail, { field: 'exec_id' });
  }
  if (incarnation === present) return 'agent';
  if (end !== null) return 'row';
  if (present !== null && incarnation > present) {
    throw new CodedError('fenced', `The session is at sandbox ${incarnation}, no longer at ${present}`);
  }
  throw new CodedError(
    'exec_lost',
    `Exec ${id} was started in sandbox ${incarnation} of the session, and nobody saw its end there; it is not run again`,
    { field: 'exec_id' },
  );
}
