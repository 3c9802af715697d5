import { CodedError, type ErrorCode } from '../errors.ts';
import { whoAnswers } from '../sessions/exec-registry.ts';
import type { ExecRow, RegisteredExec } from '../store/execs.ts';
import type { ApiDeps, SessionLink, SessionManager } from './deps.ts';

type Deps = Pick<ApiDeps, 'manager' | 'execs'>;

/** Who answers for an exec: the agent of the present sandbox, or what was written down of an earlier one. */
export type ExecPlace = { link: SessionLink; registered?: RegisteredExec } | { row: ExecRow };

export function isError(error: unknown, ...codes: ErrorCode[]): error is CodedError {
  return error instanceof CodedError && codes.includes(error.code);
}

/** Finds who answers for an exec that is to be started under this id, or was: the id is written down before. */
export async function placeToStart(
  deps: Deps,
  exec: { sessionId: string; id: string; key: string; actor: string },
): Promise<ExecPlace> {
  let link: SessionLink;
  try {
    link = await deps.manager.link(exec.sessionId);
  } catch (error) {
    if (!isError(error, 'session_not_open', 'session_stopping')) throw error;
    // Nothing begins here now, but what this id stands for can be told.
    return placeOfKnown(deps, exec, error);
  }
  const { incarnation } = link.sandbox;
  const registered = await deps.execs.register({ ...exec, incarnation });
  return whoAnswers(registered.exec, exec.key, incarnation) === 'agent'
    ? { link, registered }
    : { row: registered.exec };
}

/** Finds who answers for an exec that was started, though no sandbox takes work now. Throws `closed` where nothing is known of it. */
async function placeOfKnown(
  { manager, execs }: Deps,
  { sessionId, id, key }: { sessionId: string; id: string; key: string | null },
  closed: CodedError,
): Promise<ExecPlace> {
  const row = await execs.find(sessionId, id);
  if (row === null) throw closed;
  const link = await linkToRead(manager, sessionId).catch((error) => {
    if (row.end === null && !isError(error, 'session_not_open', 'session_stopping')) throw error;
    return null;
  });
  const answers = whoAnswers(row, key, link?.sandbox.incarnation ?? null);
  return answers === 'agent' && link !== null ? { link } : { row };
}

/** Also while the session is being stopped: what ran goes on to be read. */
export async function linkToRead(manager: SessionManager, sessionId: string): Promise<SessionLink> {
  try {
    return await manager.link(sessionId);
  } catch (error) {
    if (!isError(error, 'session_stopping')) throw error;
    return manager.linkAny(sessionId);
  }
}

/**
 * What an agent does not know, or no longer, may have been written down: answers its row where the end is known. Throws `exec_lost` where it
 * ran in an earlier sandbox and nobody saw the end, and `error`, which is the agent's, where nothing more is known.
 */
export async function rowInstead(
  execs: ApiDeps['execs'],
  exec: { sessionId: string; id: string },
  present: number | null,
  error: unknown,
): Promise<ExecRow> {
  if (!isError(error, 'exec_not_found', 'exec_ended', 'session_not_open')) throw error;
  const row = await execs.find(exec.sessionId, exec.id);
  if (row === null) throw error;
  if (whoAnswers(row, null, present) === 'agent' && row.end === null) throw error;
  return row;
}
