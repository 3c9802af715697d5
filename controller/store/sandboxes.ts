import { type Database, row, value } from './database.ts';
import type { SandboxRow, SessionRow, SessionSettings } from './rows.ts';

/** Why a session ended in `failed`. */
export interface Failure {
  code: string;
  detail: string;
}

export interface Opened {
  session: SessionRow;
  sandbox: SandboxRow;
  created: boolean;
  opened: boolean;
  canceled: boolean;
}

export interface StopOptions {
  /** Between SIGTERM and SIGKILL to what still runs, milliseconds. Default: the stack's setting. */
  graceMs?: number | undefined;
  /** What can't be saved may be lost. Default false. */
  discardUnsaved?: boolean | undefined;
}

/** What a sandbox had not saved when it was given up. */
export interface LostFiles {
  files: number;
  bytes: number;
  since_version: number;
}

/** Which sandbox, and as whom: a write under another fence than the row's is refused with `fenced`. */
export type Fenced = Pick<SandboxRow, 'name' | 'fence' | 'app'>;

/** The token under which its caller works for a cell; null where that is not asked for. Throws `fenced` where the cell is another's. */
export type LeaseOf = (app: string) => number | null;

/** The moves of sessions and sandboxes; `actor` and `reason` go into the event that each writes. */
export function sandboxStore(database: Database, leaseOf: LeaseOf) {
  return {
    /**
     * `settings: null` demands that the session exists. `version`: of the files, where not the newest. `opened`: a new incarnation was made
     * for this call; `canceled`: its stop was taken back. Rejects with `session_stopping` where that is too late, and `too_many_starts`.
     */
    openSession(open: {
      id: string;
      settings: SessionSettings | null;
      app: string;
      actor: string;
      version?: number | undefined;
      startsPerHour?: number;
    }) {
      return value<Opened>(
        'session_open',
        database.rpc('session_open', {
          p_id: open.id,
          p_settings: open.settings,
          p_app: open.app,
          p_actor: open.actor,
          p_version: open.version ?? null,
          p_starts_per_hour: open.startsPerHour ?? null,
        }),
      );
    },

    sandboxCreated(sandbox: Fenced, machine: { id: string; region: string | null }, actor: string) {
      return row<SandboxRow>(
        'sandbox_created',
        database.rpc('sandbox_created', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_machine_id: machine.id,
          p_region: machine.region,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    sandboxReady(sandbox: Fenced, actor: string) {
      return row<SandboxRow>(
        'sandbox_ready',
        database.rpc('sandbox_ready', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** `discardUnsaved` can be said of a stop under way, too. */
    stopSession(
      id: string,
      reason: string,
      actor: string,
      { graceMs, discardUnsaved = false }: StopOptions = {},
    ) {
      return value<{ session: SessionRow; sandbox: SandboxRow | null }>(
        'session_stop',
        database.rpc('session_stop', {
          p_id: id,
          p_reason: reason,
          p_actor: actor,
          p_grace_ms: graceMs ?? null,
          p_discard: discardUnsaved,
        }),
      );
    },

    /** As `stopSession`, but only while it is this sandbox that serves the session; null where it is gone. */
    stopSandbox(sandbox: Fenced, reason: string, actor: string) {
      return value<{ session: SessionRow; sandbox: SandboxRow | null } | null>(
        'sandbox_stop',
        database.rpc('sandbox_stop', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_reason: reason,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** `head`: the version that holds all of its files; rejects with `save_conflict` where a newer one was committed meanwhile. */
    sandboxDestroying(sandbox: Fenced, reason: string, actor: string, head: number | null = null) {
      return row<SandboxRow>(
        'sandbox_destroying',
        database.rpc('sandbox_destroying', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_reason: reason,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
          p_head: head,
        }),
      );
    },

    /** `error: null` leaves the session `stopped`, otherwise `failed`. */
    sandboxGone(sandbox: Fenced, reason: string, error: Failure | null, actor: string) {
      return row<SandboxRow>(
        'sandbox_gone',
        database.rpc('sandbox_gone', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_reason: reason,
          p_error: error,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** The agent is about to be sealed; rejects with `fenced` where the stop was cancelled. */
    sandboxSealing(sandbox: Fenced, actor: string) {
      return row<SandboxRow>(
        'sandbox_sealing',
        database.rpc('sandbox_sealing', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** Gives up what is not saved. Rejects with `save_failed` while no caller has allowed that and `keepMs` have not passed. */
    sandboxDiscard(sandbox: Fenced, keepMs: number, reason: string, lost: LostFiles | null, actor: string) {
      return row<SandboxRow>(
        'sandbox_discard',
        database.rpc('sandbox_discard', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_keep_ms: keepMs,
          p_reason: reason,
          p_lost: lost,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** The session may be opened again although this sandbox's machine is still there. */
    releaseSession(sandbox: Fenced, error: Failure | null, actor: string) {
      return row<SandboxRow>(
        'session_release',
        database.rpc('session_release', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_error: error,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    sandboxUnresponsive(sandbox: Fenced, unresponsive: boolean, reason: string, actor: string) {
      return row<SandboxRow>(
        'sandbox_unresponsive',
        database.rpc('sandbox_unresponsive', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_unresponsive: unresponsive,
          p_reason: reason,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
        }),
      );
    },

    /** `boot` tells one restart of the agent from the next. */
    agentRestarted(sandbox: Fenced, boot: string, reason: string, actor: string) {
      return row<SandboxRow>(
        'sandbox_agent_restarted',
        database.rpc('sandbox_agent_restarted', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_boot: boot,
          p_reason: reason,
          p_actor: actor,
        }),
      );
    },

    saveFailed(sandbox: Fenced, failure: Failure, actor: string) {
      return row<SessionRow>(
        'save_failed',
        database.rpc('save_failed', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_code: failure.code,
          p_detail: failure.detail,
          p_actor: actor,
        }),
      );
    },

    /** A save found nothing to do. One that committed a version needs no such word. */
    saveDone(sandbox: Fenced, actor: string) {
      return row<SessionRow>(
        'save_done',
        database.rpc('save_done', { p_name: sandbox.name, p_fence: sandbox.fence, p_actor: actor }),
      );
    },

    async touchSession(id: string): Promise<void> {
      await value('session_touch', database.rpc('session_touch', { p_id: id }));
    },
  };
}
