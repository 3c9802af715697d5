import { type Database, row, value } from './database.ts';
import type { SandboxRow, SessionRow, SessionSettings } from './rows.ts';

/** Why a session ended in `failed`. */
export interface Failure {
  code: string;
  detail: string;
}

/** Which sandbox, and as whom: a write under another fence than the row's is refused with `fenced`. */
export type Fenced = Pick<SandboxRow, 'name' | 'fence' | 'app'>;

/** The token under which its caller works for a cell; null where that is not asked for. Throws `fenced` where the cell is another's. */
export type LeaseOf = (app: string) => number | null;

/** The moves of sessions and sandboxes; `actor` and `reason` go into the event that each writes. */
export function sandboxStore(database: Database, leaseOf: LeaseOf) {
  return {
    /** `settings: null` demands that the session exists. `opened`: a new incarnation was made for this call. */
    openSession(open: { id: string; settings: SessionSettings | null; app: string; actor: string }) {
      return value<{ session: SessionRow; sandbox: SandboxRow; created: boolean; opened: boolean }>(
        'session_open',
        database.rpc('session_open', {
          p_id: open.id,
          p_settings: open.settings,
          p_app: open.app,
          p_actor: open.actor,
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

    stopSession(id: string, reason: string, actor: string) {
      return value<{ session: SessionRow; sandbox: SandboxRow | null }>(
        'session_stop',
        database.rpc('session_stop', { p_id: id, p_reason: reason, p_actor: actor }),
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

    sandboxDestroying(sandbox: Fenced, reason: string, actor: string) {
      return row<SandboxRow>(
        'sandbox_destroying',
        database.rpc('sandbox_destroying', {
          p_name: sandbox.name,
          p_fence: sandbox.fence,
          p_reason: reason,
          p_actor: actor,
          p_lease: leaseOf(sandbox.app),
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

    async touchSession(id: string): Promise<void> {
      await value('session_touch', database.rpc('session_touch', { p_id: id }));
    },
  };
}
