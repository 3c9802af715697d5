import type { Job, JobLogEvent } from '../controller/api/schemas.ts';
import { Deadline } from './deadline.ts';
import { MobVibeError } from './errors.ts';
import { advance, endWhenSilent, type OutputChunk } from './follow.ts';
import { newId } from './ids.ts';
import { leave, readLines } from './ndjson.ts';
import { isPassing, MAX_ATTEMPTS, pauseMs } from './retry.ts';
import type { CallOptions, Transport } from './transport.ts';

export interface JobOptions extends CallOptions {
  /** The same id again finds the job that exists. Default: a new one. */
  id?: string;
  /** Absolute, or relative to `/workspace`. */
  cwd?: string;
  env?: Record<string, string>;
  /** Deadline of the command, milliseconds. */
  commandTimeoutMs?: number;
  /** A job is tried again only when its command provably was not started. Default 3. */
  maxAttempts?: number;
}

export interface PageOptions extends CallOptions {
  /** `nextCursor` of the page before. */
  cursor?: string;
  /** 1 to 200. Default 50. */
  limit?: number;
}

export interface Page<T> {
  items: T[];
  /** Null on the last page. */
  nextCursor: string | null;
}

/** How long `wait` and following logs take at most when nothing else is said, milliseconds. */
const WAIT_TIMEOUT_MS = 86_400_000;

/** Commands that are queued, and run when their session has a sandbox (which is started for them). */
export class Jobs {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  create(sessionId: string, command: string | string[], options: JobOptions = {}): Promise<Job> {
    const { id = newId(), cwd, env, commandTimeoutMs, maxAttempts, ...call } = options;
    return this.#transport.json({
      method: 'POST',
      path: '/v1/jobs',
      json: {
        id,
        session_id: sessionId,
        command,
        cwd,
        env,
        timeout_ms: commandTimeoutMs,
        max_attempts: maxAttempts,
      },
      repeatable: true,
      ...call,
    });
  }

  get(id: string, options: CallOptions = {}): Promise<Job> {
    return this.#look(id, options);
  }

  async list(options: PageOptions & { sessionId?: string; status?: Job['status'] } = {}): Promise<Page<Job>> {
    const { sessionId, status, cursor, limit, ...call } = options;
    const { items, next_cursor } = await this.#transport.json<{ items: Job[]; next_cursor: string | null }>({
      method: 'GET',
      path: '/v1/jobs',
      query: { session_id: sessionId, status, cursor, limit },
      repeatable: true,
      ...call,
    });
    return { items, nextCursor: next_cursor };
  }

  /** A running job is interrupted soon; an ended one stays as it is. */
  cancel(id: string, options: CallOptions = {}): Promise<Job> {
    return this.#transport.json({
      method: 'POST',
      path: `${jobPath(id)}/cancel`,
      repeatable: true,
      ...options,
    });
  }

  /**
   * The output of a job until now, or with `follow` until it ends; the generator's return value is the job then. A broken
   * connection is made again and no byte is given twice.
   */
  async *logs(
    id: string,
    options: CallOptions & { follow?: boolean } = {},
  ): AsyncGenerator<OutputChunk, Job> {
    const { follow = false, timeoutMs = WAIT_TIMEOUT_MS, signal } = options;
    const deadline = new Deadline('Following the job', timeoutMs, signal);
    const offsets = { stdout: 0, stderr: 0 };
    for (let attempt = 1; ; attempt++) {
      let ms: number;
      try {
        const response = await this.#transport.stream({
          method: 'GET',
          path: `${jobPath(id)}/logs`,
          query: { follow: follow ? 1 : undefined },
          repeatable: true,
          deadline,
        });
        endWhenSilent(response);
        let ended = false;
        try {
          for await (const events of readLines<JobLogEvent>(response)) {
            for (const event of events) {
              ended = event.type === 'end';
              if (event.type === 'end') return event.job;
              if (event.type === 'ping') continue;
              attempt = 1;
              const data = Buffer.from(event.data, event.encoding ?? 'utf8');
              yield* advance(offsets, event.type, event.offset, data);
            }
          }
        } finally {
          leave(response, ended);
        }
        throw new MobVibeError('connection_lost', 'unknown', 'The log stopped before its end');
      } catch (error) {
        const reason = this.#transport.explain(error);
        if (!isPassing(reason) || attempt >= MAX_ATTEMPTS) throw reason;
        ms = pauseMs(reason, attempt);
      }
      await deadline.pause(ms);
    }
  }

  /** Waits until a job has ended. */
  async wait(id: string, options: CallOptions = {}): Promise<Job> {
    const deadline = new Deadline(
      'Waiting for the job',
      options.timeoutMs ?? WAIT_TIMEOUT_MS,
      options.signal,
    );
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 1.5, 1_000)) {
      const job = await this.#look(id, { deadline });
      if (job.ended_at !== null) return job;
      await deadline.pause(pauseMs);
    }
  }

  #look(id: string, bounds: CallOptions | { deadline: Deadline }): Promise<Job> {
    return this.#transport.json({ method: 'GET', path: jobPath(id), repeatable: true, ...bounds });
  }
}

const jobPath = (id: string) => `/v1/jobs/${encodeURIComponent(id)}`;
