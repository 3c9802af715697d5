import { CodedError } from '../errors.ts';
import { type Database, rows } from './database.ts';
import type {
  JobOutputRow,
  JobRow,
  JobStatus,
  ManifestRow,
  SandboxRow,
  SessionEventRow,
  SessionRow,
  SessionStatus,
} from './rows.ts';

/** A page's worth of rows in the order of their ids, after the one named. */
export interface PageQuery<Id> {
  after?: Id;
  limit: number;
}

/** Supabase answers at most this many rows at once by default (`max_rows`). */
const MOST_ROWS = 1000;

export function reading(database: Database) {
  const one = async <T>(what: string, call: Parameters<typeof rows>[1]): Promise<T | null> =>
    (await rows<T>(what, call))[0] ?? null;

  const findSession = (id: string) =>
    one<SessionRow>('session', database.from('coding_sessions').select('*').eq('id', id).limit(1));

  return {
    findSession,

    async getSession(id: string): Promise<SessionRow> {
      const found = await findSession(id);
      if (found === null) throw new CodedError('session_not_found', `There is no session "${id}"`);
      return found;
    },

    findSandbox: (name: string) =>
      one<SandboxRow>('sandbox', database.from('sandboxes').select('*').eq('name', name).limit(1)),

    /** The newest sandbox of a session that is not gone, if there is one; older ones may still be there, being destroyed. */
    findLiveSandbox: (sessionId: string) =>
      one<SandboxRow>(
        'sandbox',
        database
          .from('sandboxes')
          .select('*')
          .eq('session_id', sessionId)
          .neq('state', 'gone')
          .order('incarnation', { ascending: false })
          .limit(1),
      ),

    /** Every sandbox of the app that is not gone, read in pages. */
    async listLiveSandboxes(app: string): Promise<SandboxRow[]> {
      const all: SandboxRow[] = [];
      for (;;) {
        let query = database.from('sandboxes').select('*').eq('app', app).neq('state', 'gone');
        const last = all.at(-1);
        if (last !== undefined) query = query.gt('name', last.name);
        const page = await rows<SandboxRow>(
          'sandboxes',
          query.order('name', { ascending: true }).limit(MOST_ROWS),
        );
        all.push(...page);
        if (page.length < MOST_ROWS) return all;
      }
    },

    findManifest: (sessionId: string, version: number) =>
      one<ManifestRow>(
        'manifest',
        database.from('manifests').select('*').eq('session_id', sessionId).eq('version', version).limit(1),
      ),

    listSessions(page: PageQuery<string> & { status?: SessionStatus }) {
      let query = database.from('coding_sessions').select('*');
      if (page.status !== undefined) query = query.eq('status', page.status);
      if (page.after !== undefined) query = query.gt('id', page.after);
      return rows<SessionRow>('sessions', query.order('id', { ascending: true }).limit(page.limit));
    },

    listSessionEvents(sessionId: string, page: PageQuery<number>) {
      let query = database.from('session_events').select('*').eq('session_id', sessionId);
      if (page.after !== undefined) query = query.gt('id', page.after);
      return rows<SessionEventRow>(
        'session events',
        query.order('id', { ascending: true }).limit(page.limit),
      );
    },

    /** Why the sandbox's machine was given up, as its event says. */
    async findDestroyingReason(sessionId: string, name: string): Promise<string | null> {
      const events = await rows<SessionEventRow>(
        'session events',
        database
          .from('session_events')
          .select('*')
          .eq('session_id', sessionId)
          .eq('sandbox', name)
          .in('kind', ['sandbox.destroying', 'sandbox.discarded'])
          .limit(1),
      );
      return events[0]?.reason ?? null;
    },

    /** When the job was marked as started, Unix milliseconds; null when it never was. */
    async findJobStart(job: Pick<JobRow, 'id' | 'session_id'>): Promise<number | null> {
      const events = await rows<SessionEventRow>(
        'session events',
        database
          .from('session_events')
          .select('*')
          .eq('session_id', job.session_id)
          .eq('kind', 'job.started')
          .order('id', { ascending: false })
          .limit(MOST_ROWS),
      );
      const start = events.find(({ data }) => data.job?.id === job.id);
      return start === undefined ? null : Date.parse(start.at);
    },

    async getJob(id: string): Promise<JobRow> {
      const found = await one<JobRow>('job', database.from('jobs').select('*').eq('id', id).limit(1));
      if (found === null) throw new CodedError('job_not_found', `There is no job "${id}"`);
      return found;
    },

    listJobs(page: PageQuery<string> & { sessionId?: string; status?: JobStatus }) {
      let query = database.from('jobs').select('*');
      if (page.sessionId !== undefined) query = query.eq('session_id', page.sessionId);
      if (page.status !== undefined) query = query.eq('status', page.status);
      if (page.after !== undefined) query = query.gt('id', page.after);
      return rows<JobRow>('jobs', query.order('id', { ascending: true }).limit(page.limit));
    },

    listJobOutput(jobId: string, page: PageQuery<number>) {
      let query = database.from('job_output').select('*').eq('job_id', jobId);
      if (page.after !== undefined) query = query.gt('seq', page.after);
      return rows<JobOutputRow>('job output', query.order('seq', { ascending: true }).limit(page.limit));
    },

    /** Resolves when the database answers. */
    async ping(): Promise<void> {
      await rows('database', database.from('coding_sessions').select('id').limit(1));
    },
  };
}
