import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import type { SealRequest, SealResult, Unsaved, UnsavedRequest } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import { SaveLedger } from './ledger.ts';
import { SILENCE_MS } from './long-answer.ts';
import { ObjectSize } from './object-size.ts';
import { type Restored, restoreWanted } from './restore.ts';
import { manifestOf, type Saved, saveOnce } from './save.ts';
import type { WorkspaceStorage } from './storage.ts';
import { FairTurns } from './turns.ts';

export interface SaveOutcome {
  /** Newest version afterwards; 0 when nothing was ever saved. */
  version: number;
  changed: boolean;
  files: number;
  bytes: number;
  /** Paths that can't be saved, with the reason. */
  left_out?: string[];
  /** False: not all of it existed at one moment. Of a new version. */
  atomic?: boolean;
}

export interface SaveCall {
  /** The sandbox is sealed: nothing is left that would have to be held still. */
  final?: boolean;
  /** Nobody wants it any more: it is broken off, which is no failure. */
  signal?: AbortSignal;
}

/** How a save ended: `saved`, `unchanged`, or the code of its failure. */
export interface SaveReport {
  outcome: string;
  durationMs: number;
  /** That were uploaded. */
  bytes: number;
}

export interface FilesDeps {
  store: Pick<Store, 'getSession' | 'findManifest' | 'commitManifest' | 'saveFailed' | 'saveDone'>;
  storage: WorkspaceStorage;
  hub: AgentHub;
  config: Pick<Config, 'savePauseMs' | 'onDamage'>;
  log: Logger;
  /** Unix milliseconds. */
  clock: () => number;
  onSave?: (report: SaveReport) => void;
  /** Of an agent at work, before it is given up. Default 60 s. */
  silenceMs?: number;
}

const ACTOR = 'lifecycle';
/** How long an agent that is not connected now is waited for. */
const AGENT_MS = 5_000;
/** Calls of the storage, and of the database, for all saves together. */
const ASKED_AT_ONCE = 8;
const COMMITS_AT_ONCE = 4;
/** Added to the grace of a seal: to end what has to be killed, and for changes under way. */
const SEAL_MS = 60_000;

/**
 * A session's files, to storage and back. The bytes travel between agent and storage; this side signs URLs, checks what has arrived and
 * commits. A save that has returned is committed: nothing before that changes what a later restore gives.
 */
export class WorkspaceFiles {
  readonly ledger = new SaveLedger();
  readonly #deps: FilesDeps;
  readonly #saving = new Map<string, Promise<SaveOutcome>>();
  readonly #objectSize: ObjectSize;
  readonly #asking = new FairTurns(ASKED_AT_ONCE);
  readonly #committing = new FairTurns(COMMITS_AT_ONCE);
  readonly #suspects = new Set<string>();

  constructor(deps: FilesDeps) {
    this.#deps = deps;
    this.#objectSize = new ObjectSize(deps.storage, deps.clock);
  }

  /**
   * Saves the files where they have changed. Rejects with `fenced` when the sandbox is no longer the session's newest; any other failure is
   * in the session's row by then: `storage_full`, `storage_refused` and `storage_unavailable`, each with the setting to change, `save_failed`
   * when what arrived is not what was sent, `save_conflict`, or what kept the agent from it.
   */
  async save(sandbox: SandboxRow, call: SaveCall = {}): Promise<SaveOutcome> {
    // One at a time: the one under way may have packed before what this caller wants saved was written.
    const before = this.#saving.get(sandbox.name) ?? Promise.resolve();
    const mine = before.then(
      () => this.#save(sandbox, call),
      () => this.#save(sandbox, call),
    );
    this.#saving.set(sandbox.name, mine);
    try {
      return await mine;
    } finally {
      if (this.#saving.get(sandbox.name) === mine) this.#saving.delete(sandbox.name);
    }
  }

  /**
   * Brings the version that the sandbox is to begin with into it and checks that all of it is there. Safe to repeat. Rejects with
   * `version_damaged`, which no repetition helps, and `version_not_found`.
   */
  async restore(sandbox: SandboxRow): Promise<Restored> {
    const { store, storage, log, config } = this.#deps;
    const parts = { store, storage, log, ...this.#shared(), onDamage: config.onDamage };
    return restoreWanted(parts, sandbox, await this.#link(sandbox));
  }

  /** How the workspace differs from the newest version. */
  async unsaved(sandbox: SandboxRow): Promise<Unsaved> {
    const { head } = await this.#deps.store.getSession(sandbox.session_id);
    const manifest = await manifestOf(this.#deps.store, sandbox.session_id, head);
    const request: UnsavedRequest = { base: head, ...(manifest && { base_sha256: manifest.sha256 }) };
    return this.#post<Unsaved>(sandbox, '/workspace/unsaved', request, this.#silenceMs);
  }

  /** The workspace as a tar, past the storage: for when that takes nothing. */
  async rescue(sandbox: SandboxRow): Promise<{ body: Readable }> {
    const link = await this.#link(sandbox);
    const reply = await link.request({
      method: 'GET',
      path: '/workspace/tar',
      lane: true,
      timeoutMs: this.#silenceMs,
    });
    await reply.check();
    return { body: reply.body };
  }

  /** Ends what the user runs; when that has returned, nothing in the sandbox changes any more. */
  async seal(sandbox: SandboxRow, graceMs: number): Promise<SealResult> {
    const request: SealRequest = { fence: sandbox.fence, grace_ms: graceMs };
    return this.#post<SealResult>(sandbox, '/seal', request, graceMs + SEAL_MS);
  }

  async #save(sandbox: SandboxRow, { final = false, signal }: SaveCall): Promise<SaveOutcome> {
    const { store, storage, hub, clock, config } = this.#deps;
    signal?.throwIfAborted();
    const startedAt = clock();
    const parts = { store, storage, hub, objectSize: this.#objectSize, committing: this.#committing };
    try {
      const saved = await saveOnce({ ...parts, ...this.#shared() }, sandbox, {
        pauseMs: final ? 0 : config.savePauseMs,
        signal,
        onChanged: () => this.ledger.changed(sandbox, startedAt),
      });
      this.ledger.saved(sandbox, startedAt);
      if (saved.atomic === false)
        this.#deps.log.warn({ sandbox: sandbox.name, version: saved.version }, 'save is not of one moment');
      return this.#told(saved, startedAt);
    } catch (error) {
      await this.#failed(sandbox, error, { startedAt, brokenOff: signal?.aborted ?? false });
      throw error;
    }
  }

  #told({ uploaded, ...outcome }: Saved, startedAt: number): SaveOutcome {
    this.#report(outcome.changed ? 'saved' : 'unchanged', startedAt, uploaded);
    return outcome;
  }

  /** Puts the failure into the session's row. One that can't be put there is told to the caller all the same. */
  async #failed(
    sandbox: SandboxRow,
    error: unknown,
    { startedAt, brokenOff }: { startedAt: number; brokenOff: boolean },
  ): Promise<void> {
    const { store, log, clock } = this.#deps;
    const { code, detail } =
      error instanceof CodedError ? error : new CodedError('internal', (error as Error).message);
    // Another sandbox has taken over, or nobody wants this save: neither says that files can't be saved.
    if (brokenOff || code === 'fenced') return this.ledger.brokenOff(sandbox);
    this.ledger.failed(sandbox, clock());
    this.#report(code, startedAt, 0);
    log.warn({ sandbox: sandbox.name, code, detail }, 'save failed');
    try {
      await store.saveFailed(sandbox, { code, detail }, ACTOR);
    } catch (unnoted) {
      log.warn({ sandbox: sandbox.name, err: unnoted }, 'the failure of a save was not noted');
    }
  }

  #report(outcome: string, startedAt: number, bytes: number): void {
    const durationMs = Math.max(0, this.#deps.clock() - startedAt);
    this.#deps.onSave?.({ outcome, durationMs, bytes });
  }

  async #post<T>(sandbox: SandboxRow, path: string, body: unknown, timeoutMs: number): Promise<T> {
    const link = await this.#link(sandbox);
    const reply = await link.request({
      method: 'POST',
      path,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      timeoutMs,
    });
    return reply.expect<T>();
  }

  #link(sandbox: SandboxRow): Promise<AgentLink> {
    return this.#deps.hub.waitFor(sandbox.name, { timeoutMs: AGENT_MS });
  }

  get #silenceMs(): number {
    return this.#deps.silenceMs ?? SILENCE_MS;
  }

  #shared() {
    return { asking: this.#asking, suspects: this.#suspects, silenceMs: this.#silenceMs };
  }
}
