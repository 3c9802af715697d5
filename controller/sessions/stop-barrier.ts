import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';
import { saveRetryMs } from '../files/retry.ts';
import type { Failure } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import { recordEnds } from './exec-ends.ts';
import { asFailure, failureReason } from './failures.ts';
import type { WorkerDeps } from './worker.ts';

const ACTOR = 'lifecycle';
/** An agent whose connection broke dials again within seconds. */
const AGENT_SLICE_MS = 5_000;

/** `lost`: the machine has ended by itself, and there is nothing left to save. */
export type Passed = { kind: 'saved'; version: number } | { kind: 'lost' | 'failed'; failure: Failure };

/**
 * What stands between a stop and the end of its machine. The seal is committed before the agent is asked for it, so that a stop which is
 * cancelled is never sealed; the agent then takes no more work and ends what the user runs; only after that one save is made, and as
 * nothing can change any more, one is enough. What can't be saved is given up only where the database allows it: a caller has said so, or
 * the time for that is over.
 */
export class StopBarrier {
  readonly #deps: WorkerDeps;
  readonly #lost: (row: SandboxRow) => Promise<Failure | null>;

  /** `lost`: what became of a machine that has ended by itself; null while it is there, or nobody can tell. */
  constructor(deps: WorkerDeps, lost: (row: SandboxRow) => Promise<Failure | null>) {
    this.#deps = deps;
    this.#lost = lost;
  }

  /**
   * Each step can be repeated. `signal`: nobody waits for this any more, or the row may say something else by now. Throws what says nothing of
   * the files, `fenced` above all.
   */
  async pass(row: SandboxRow, signal: AbortSignal): Promise<Passed> {
    const { store, hub, files, stopGraceMs } = this.#deps;
    try {
      if (hub.get(row.name) === undefined) {
        const lost = await this.#lost(row);
        if (lost !== null) return { kind: 'lost', failure: lost };
        await hub.waitFor(row.name, { timeoutMs: AGENT_SLICE_MS, signal });
      }
      const sealing = await store.sandboxSealing(row, ACTOR);
      await files.seal(sealing, row.grace_ms ?? stopGraceMs);
      await this.#keepEnds(row);
    } catch (error) {
      return this.#failed(row, error, (failure) => signal.aborted || store.saveFailed(row, failure, ACTOR));
    }
    try {
      const { version } = await files.save(row, { final: true });
      return { kind: 'saved', version };
    } catch (error) {
      // Told to the database by the save itself.
      return this.#failed(row, error);
    }
  }

  /** How its execs ended is asked of the database from now on. An agent that can't say it holds up no stop. */
  async #keepEnds(row: SandboxRow): Promise<void> {
    const { store, hub, log } = this.#deps;
    const link = await hub.waitFor(row.name, { timeoutMs: AGENT_SLICE_MS });
    await recordEnds(store, link, row.session_id).catch((error: unknown) => {
      if (error instanceof CodedError && error.code.startsWith('database_')) throw error;
      log.warn({ sandbox: row.name, err: error }, 'the ends of execs were not kept');
    });
  }

  async #failed(
    row: SandboxRow,
    error: unknown,
    tell: (failure: Failure) => unknown = () => undefined,
  ): Promise<Passed> {
    if (error instanceof CodedError && error.code === 'fenced') throw error;
    const lost = await this.#lost(row);
    if (lost !== null) return { kind: 'lost', failure: lost };
    const failure = asFailure(error);
    await tell(failure);
    return { kind: 'failed', failure };
  }

  /** The sandbox, destroying, where what is not saved may be given up now; null where it has to be kept. */
  async discard(row: SandboxRow, failure: Failure): Promise<SandboxRow | null> {
    const { store, files, clock, unsavedKeepMs } = this.#deps;
    const overdue = clock() - Date.parse(row.stopping_at!) >= unsavedKeepMs;
    if (!row.discard_unsaved && !overdue) return null;
    const unsaved = await files.unsaved(row).catch(() => null);
    const lost = unsaved && { files: unsaved.files, bytes: unsaved.bytes, since_version: unsaved.base };
    const what = lost
      ? `${lost.files} files (${lost.bytes} bytes) changed since version ${lost.since_version} are lost`
      : 'What changed since the last saved version is lost; how much that is can not be told';
    const why = row.discard_unsaved
      ? 'a caller allowed it'
      : `they could not be saved for ${unsavedKeepMs} ms`;
    const detail = `${what}: ${why}. The last failure: ${failure.detail}`;
    const reason = failureReason({ code: 'save_failed', detail });
    this.#deps.log.error({ sandbox: row.name, ...lost, reason }, 'unsaved files are given up');
    return store.sandboxDiscard(row, unsavedKeepMs, reason, lost, ACTOR);
  }

  retryMs(failure: Failure, attempt: number): number {
    const code: ErrorCode = Object.hasOwn(ERRORS, failure.code) ? (failure.code as ErrorCode) : 'internal';
    return saveRetryMs(code, attempt, this.#deps.random);
  }
}
