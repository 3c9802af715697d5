import type { Logger } from 'pino';
import type { AgentLink } from '../agents/link.ts';
import type { ExecInfo } from '../agents/wire.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { ExecEnd } from './exec.ts';
import { pause } from './pause.ts';

interface SeenEnd {
  id: string;
  end: ExecEnd;
}

/** Ends that wait to be written down; of more the oldest are given up: a stop asks the agent for all of its own once more. */
const MOST_WAITING = 10_000;
const MOST_IN_A_CALL = 500;
/** Ends that follow one another go together: they are of use only when their sandbox is gone. */
const GATHER_MS = 200;
const TRIES = 6;
const RETRY_MS = 250;

/** Writes down how execs ended, as a matter of the database's pace and nobody else's. */
export class EndRecorder {
  readonly #store: Pick<Store, 'recordExecEnds'>;
  readonly #log: Logger;
  /** By session. */
  readonly #waiting = new Map<string, SeenEnd[]>();
  #count = 0;
  #working: Promise<void> | undefined;

  constructor({ store, log }: { store: Pick<Store, 'recordExecEnds'>; log: Logger }) {
    this.#store = store;
    this.#log = log;
  }

  add(sessionId: string, id: string, end: ExecEnd): void {
    const ends = this.#waiting.get(sessionId);
    if (ends === undefined) this.#waiting.set(sessionId, [{ id, end }]);
    else ends.push({ id, end });
    this.#count += 1;
    if (this.#count > MOST_WAITING) this.#dropOldest();
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  async settled(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  async #work(): Promise<void> {
    await pause(GATHER_MS);
    for (let next = this.#take(); next !== undefined; next = this.#take()) {
      const { sessionId, ends } = next;
      try {
        await withRetries(() => this.#store.recordExecEnds(sessionId, ends));
      } catch (error) {
        this.#log.warn({ err: error, session: sessionId, execs: ends.length }, 'ends of execs were not kept');
      }
    }
  }

  #take(): { sessionId: string; ends: SeenEnd[] } | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [sessionId, all] = first;
    const ends = all.splice(0, MOST_IN_A_CALL);
    this.#count -= ends.length;
    if (all.length === 0) this.#waiting.delete(sessionId);
    return { sessionId, ends };
  }

  #dropOldest(): void {
    const [[sessionId, ends]] = this.#waiting as unknown as [[string, SeenEnd[]]];
    ends.shift();
    this.#count -= 1;
    if (ends.length === 0) this.#waiting.delete(sessionId);
    this.#log.warn({ session: sessionId }, 'the end of an exec was not kept: too many wait');
  }
}

/**
 * Asks the agent of a sandbox that is being stopped how its execs ended, and writes it down. To be called when nothing runs in it any more
 * and before its machine goes: after it, an id that ran there is answered from the database. Answers how many were new.
 */
export async function recordEnds(
  store: Pick<Store, 'recordExecEnds'>,
  link: Pick<AgentLink, 'request'>,
  sessionId: string,
): Promise<number> {
  const reply = await link.request({ method: 'GET', path: '/execs' });
  const infos = await reply.expect<ExecInfo[]>();
  const ends = infos.flatMap((info) => {
    const end = endOfInfo(info);
    // Jobs have a table of their own.
    return end === null || info.id.startsWith(JOB_EXEC) ? [] : [{ id: info.id, end }];
  });
  let recorded = 0;
  for (let at = 0; at < ends.length; at += MOST_IN_A_CALL) {
    const some = ends.slice(at, at + MOST_IN_A_CALL);
    recorded += await withRetries(() => store.recordExecEnds(sessionId, some));
  }
  return recorded;
}

/** Begins the ids of execs that are jobs: `job-<id>-<attempt>`. */
export const JOB_EXEC = 'job-';

/** Null while it runs. */
export function endOfInfo(info: ExecInfo): ExecEnd | null {
  const { result, started_at, ended_at = started_at, stdout_bytes, stderr_bytes, oom_killed } = info;
  if (info.state !== 'ended' || result === undefined) return null;
  return {
    type: 'end',
    result,
    stdout_bytes,
    stderr_bytes,
    duration_ms: ended_at - started_at,
    ...(oom_killed && { oom_killed }),
  };
}

/** A longer last line is not an `end` of our agent's. */
const MOST_LINE_BYTES = 16_384;
const LINE_BREAK = 0x0a;

/** The last whole line of a stream that passes by in pieces: all that is kept of it. */
export class LastLine {
  #line = Buffer.alloc(0);
  #isTooLong = false;
  #isWhole = true;

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    // The line break that ends the chunk belongs to its last line.
    const before = chunk.length === 1 ? -1 : chunk.lastIndexOf(LINE_BREAK, chunk.length - 2);
    const begins = before >= 0 || this.#isWhole;
    if (begins) this.#line = chunk.subarray(before + 1) as Buffer<ArrayBuffer>;
    else if (!this.#isTooLong) this.#line = Buffer.concat([this.#line, chunk]);
    this.#isTooLong = (!begins && this.#isTooLong) || this.#line.length > MOST_LINE_BYTES;
    if (this.#isTooLong) this.#line = Buffer.alloc(0);
    this.#isWhole = chunk.at(-1) === LINE_BREAK;
  }

  /** Null where that line was too long, or is not whole. */
  get text(): string | null {
    return this.#isWhole && !this.#isTooLong ? this.#line.toString() : null;
  }
}

const RESULT_FIELDS = new Map([
  ['exited', 'code'],
  ['signaled', 'signal'],
  ['timed_out', 'timeout_ms'],
  ['machine_lost', 'reason'],
  ['unknown', 'reason'],
]);

/** The `end` of an exec that this line is, or null. The sandbox is not trusted: what is not of an end's fields is left out. */
export function parseEnd(line: string | null): ExecEnd | null {
  const event = parse(line);
  const field = RESULT_FIELDS.get(event?.result?.kind);
  if (event?.type !== 'end' || field === undefined || !(field in event.result)) return null;
  const { result, stdout_bytes, stderr_bytes, duration_ms, oom_killed } = event;
  if (![stdout_bytes, stderr_bytes, duration_ms].every((number) => typeof number === 'number')) return null;
  const { kind, [field]: value, by } = result;
  return {
    type: 'end',
    result: { kind, [field]: value, ...(by === 'stop' && { by }) } as ExecEnd['result'],
    stdout_bytes,
    stderr_bytes,
    duration_ms,
    ...(oom_killed === true && { oom_killed }),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: looked at field by field above
function parse(line: string | null): any {
  try {
    return JSON.parse(line ?? 'null');
  } catch {
    return null;
  }
}

/** For calls that do no harm when they are made twice. */
async function withRetries<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const isAway = error instanceof CodedError && AWAY.has(error.code);
      if (!isAway || attempt >= TRIES) throw error;
      await pause(RETRY_MS * 2 ** (attempt - 1));
    }
  }
}

const AWAY = new Set<string>(['database_unavailable', 'database_lost']);
