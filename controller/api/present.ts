import type { JobRow, SessionEventRow, SessionRow } from '../store/rows.ts';
import type { Job, Session, SessionEvent } from './schemas.ts';

/** What callers see of the rows. Fields are named one by one, so that a new column stays inside until someone adds it here. */
export function presentSession(row: SessionRow): Session {
  return {
    id: row.id,
    status: row.status,
    settings: row.settings,
    incarnation: row.incarnation,
    sandbox_id: row.sandbox_id,
    sandbox_region: row.sandbox_region,
    head: row.head,
    error: row.error,
    save: { ...row.save, attempts: row.save_attempts },
    last_active_at: row.last_active_at,
    created_at: row.created_at,
    updated_at: row.updated_at,
  };
}

export function presentJob(row: JobRow): Job {
  return {
    id: row.id,
    session_id: row.session_id,
    ...row.spec,
    status: row.status,
    attempts: row.attempts,
    max_attempts: row.max_attempts,
    started: row.started,
    cancel_requested: row.cancel_requested,
    result: row.result as Job['result'],
    run_at: row.run_at,
    created_at: row.created_at,
    updated_at: row.updated_at,
    ended_at: row.ended_at,
  };
}

export function presentEvent(row: SessionEventRow): SessionEvent {
  return {
    id: row.id,
    session_id: row.session_id,
    sandbox: row.sandbox,
    kind: row.kind,
    actor: row.actor,
    reason: row.reason,
    data: row.data,
    at: row.at,
  };
}
