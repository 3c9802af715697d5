import { type Database, row, value } from './database.ts';
import type { JobResult, JobRow, JobSpec, JobStatus } from './rows.ts';

/** A claimed job: every write about it carries the claim's token and is refused with `fenced` once another claim took over. */
export type Claim = Pick<JobRow, 'id'> & { token: number };

export interface NewJob {
  id: string;
  sessionId: string;
  spec: JobSpec;
  maxAttempts: number;
  actor: string;
}

export interface OutputChunk {
  stream: 'stdout' | 'stderr';
  offset: number;
  data: string;
  encoding: 'utf8' | 'base64';
}

/** `job_append_output` keeps so much of each stream, from its beginning, and drops the rest. */
export const KEPT_OUTPUT_BYTES = 4 * 1024 * 1024;

export function jobStore(database: Database) {
  return {
    enqueueJob(job: NewJob) {
      return value<{ job: JobRow; created: boolean }>(
        'job_enqueue',
        database.rpc('job_enqueue', {
          p_id: job.id,
          p_session: job.sessionId,
          p_spec: job.spec,
          p_max_attempts: job.maxAttempts,
          p_actor: job.actor,
        }),
      );
    },

    /** Due jobs, and those whose owner's lease ran out; of sessions whose sandbox lives in one of `apps`, or that have none. */
    claimJobs(owner: string, leaseMs: number, max: number, apps: readonly string[]) {
      return value<JobRow[]>(
        'jobs_claim',
        database.rpc('jobs_claim', { p_owner: owner, p_lease_ms: leaseMs, p_max: max, p_apps: apps }),
      );
    },

    /** To be called before the exec may start: from here on a lost lease is never answered by a second run. */
    jobStarted(claim: Claim) {
      return row<JobRow>(
        'job_started',
        database.rpc('job_started', { p_id: claim.id, p_token: claim.token }),
      );
    },

    heartbeatJob(claim: Claim, leaseMs: number) {
      return row<JobRow>(
        'job_heartbeat',
        database.rpc('job_heartbeat', { p_id: claim.id, p_token: claim.token, p_lease_ms: leaseMs }),
      );
    },

    async appendJobOutput(claim: Claim, chunk: OutputChunk): Promise<void> {
      await value(
        'job_append_output',
        database.rpc('job_append_output', {
          p_id: claim.id,
          p_token: claim.token,
          p_stream: chunk.stream,
          p_byte_offset: chunk.offset,
          p_data: chunk.data,
          p_encoding: chunk.encoding,
        }),
      );
    },

    releaseJob(claim: Claim, delayMs: number) {
      return row<JobRow>(
        'job_release',
        database.rpc('job_release', { p_id: claim.id, p_token: claim.token, p_delay_ms: delayMs }),
      );
    },

    /** The sandbox refused to start it, so it did not run: it is queued again although it was marked as started. */
    refuseJob(claim: Claim, reason: string, delayMs: number) {
      return row<JobRow>(
        'job_refused',
        database.rpc('job_refused', {
          p_id: claim.id,
          p_token: claim.token,
          p_reason: reason,
          p_delay_ms: delayMs,
        }),
      );
    },

    finishJob(claim: Claim, status: Exclude<JobStatus, 'queued' | 'running'>, result: JobResult) {
      return row<JobRow>(
        'job_finish',
        database.rpc('job_finish', {
          p_id: claim.id,
          p_token: claim.token,
          p_status: status,
          p_result: result,
        }),
      );
    },

    cancelJob(id: string, actor: string) {
      return row<JobRow>('job_cancel', database.rpc('job_cancel', { p_id: id, p_actor: actor }));
    },
  };
}
