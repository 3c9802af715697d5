import type { ExecEvent } from '../agents/wire.ts';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';
import { type Database, rows, value } from './database.ts';

type ExecEnd = Extract<ExecEvent, { type: 'end' }>;

/** An exec that was asked for under an id of its session, in whichever sandbox. */
export interface ExecRow {
  session_id: string;
  id: string;
  /** The sandbox that was asked to run it, and no other ever is. */
  incarnation: number;
  /** Equal for equal commands. */
  command_key: string;
  /** How often it was registered. */
  asked: number;
  actor: string;
  started_at: string;
  ended_at: string | null;
  /** How it ended, once somebody has seen it. */
  end: ExecEnd | null;
}

export interface NewExec {
  sessionId: string;
  id: string;
  incarnation: number;
  key: string;
  actor: string;
}

/** `created`: nobody had registered this id before. */
export interface RegisteredExec {
  created: boolean;
  exec: ExecRow;
}

export function execStore(database: Database) {
  return {
    /** To be awaited before the agent is asked to start it: from then on no other sandbox of the session runs this id. */
    registerExec(exec: NewExec) {
      return value<RegisteredExec>(
        'exec_register',
        database.rpc('exec_register', {
          p_session: exec.sessionId,
          p_id: exec.id,
          p_incarnation: exec.incarnation,
          p_key: exec.key,
          p_actor: exec.actor,
        }),
      );
    },

    /** Several in one call; answers as many, in the same order. One that is refused does not hold up the others. */
    async registerExecs(execs: NewExec[]): Promise<(RegisteredExec | CodedError)[]> {
      const p_execs = execs.map(({ sessionId, ...exec }) => ({ session: sessionId, ...exec }));
      const answers = await value<(RegisteredExec | { code: string; message: string })[]>(
        'execs_register',
        database.rpc('execs_register', { p_execs }),
      );
      return answers.map((answer) => ('code' in answer ? refused(answer) : answer));
    },

    /** Takes back what was registered and provably not started, so that the id can be used again; false where others asked for it, too. */
    withdrawExec(exec: Pick<NewExec, 'sessionId' | 'id' | 'incarnation'>) {
      return value<boolean>(
        'exec_withdraw',
        database.rpc('exec_withdraw', {
          p_session: exec.sessionId,
          p_id: exec.id,
          p_incarnation: exec.incarnation,
        }),
      );
    },

    /** Answers how many of the ends were not known before. */
    recordExecEnds(sessionId: string, ends: { id: string; end: ExecEnd }[]) {
      return value<number>(
        'execs_ended',
        database.rpc('execs_ended', { p_session: sessionId, p_ends: ends }),
      );
    },

    async findExec(sessionId: string, id: string): Promise<ExecRow | null> {
      const found = await rows<ExecRow>(
        'exec',
        database.from('session_execs').select('*').eq('session_id', sessionId).eq('id', id).limit(1),
      );
      return found[0] ?? null;
    },
  };
}

function refused({ code, message }: { code: string; message: string }): CodedError {
  if (Object.hasOwn(ERRORS, code)) return new CodedError(code as ErrorCode, message);
  return new CodedError('internal', `execs_register: ${message} (${code})`);
}
