import type { IncomingMessage } from 'node:http';
import type { ExecEvent, ExecResult } from '../controller/api/schemas.ts';
import type { Deadline } from './deadline.ts';
import { MobVibeError } from './errors.ts';
import { leave, readLines } from './ndjson.ts';
import { isPassing, pauseMs } from './retry.ts';

export type OutputName = 'stdout' | 'stderr';

/** What the output of a command consists of. `offset` is the position of the first byte of `data` in its stream. */
export type OutputChunk =
  | { stream: OutputName; offset: number; data: Buffer }
  /** The sandbox no longer had the bytes from `offset` to `to`: they were written faster than they were read. */
  | { stream: OutputName; offset: number; lostTo: number };

export interface ExecEnd {
  result: ExecResult;
  durationMs: number;
  oomKilled: boolean;
}

/** How far one has read, in bytes. */
export interface Offsets {
  stdout: number;
  stderr: number;
}

export interface FollowState {
  offsets: Offsets;
  /** Which sandbox the command runs in, once known. A reader that comes back names it. */
  incarnation: number | undefined;
}

export interface FollowOptions {
  /** Opens the stream of events from where `state` stands. Called again after the connection broke. */
  open(state: FollowState): Promise<IncomingMessage>;
  state: FollowState;
  deadline: Deadline;
  /** How long to try to get back to a stream that broke, milliseconds. */
  reconnectMs: number;
  explain(error: unknown): MobVibeError;
  onStart?(): void;
}

/** As long as nothing has begun, a caller is better served by an early error. */
const FIRST_CONNECT_MS = 5_000;
/** The controller says something at least every 15 s; after this long the connection is dead. */
const SILENCE_MS = 45_000;

/**
 * The output of a command from `state.offsets` to its end, each byte once, however often the connection breaks on the way.
 * Returns how it ended; throws when that can't be found out.
 */
export async function* follow(options: FollowOptions): AsyncGenerator<OutputChunk[], ExecEnd> {
  const { state, deadline } = options;
  let attempt = 0;
  let lostAt = 0;
  while (true) {
    let ms: number;
    try {
      const response = await options.open(state);
      endWhenSilent(response);
      let ended = false;
      try {
        for await (const events of readLines<ExecEvent>(response)) {
          attempt = 0;
          const { chunks, end } = take(events, options);
          if (chunks.length > 0) yield chunks;
          ended = end !== undefined;
          if (end !== undefined) return end;
        }
      } finally {
        leave(response, ended);
      }
      throw new MobVibeError('connection_lost', 'unknown', 'The stream of events stopped before its end');
    } catch (error) {
      const reason = options.explain(error);
      if (!isPassing(reason)) throw reason;
      if (attempt === 0) lostAt = performance.now();
      const patience = state.incarnation === undefined ? FIRST_CONNECT_MS : options.reconnectMs;
      if (performance.now() - lostAt + (reason.retryAfterMs ?? 0) > patience) throw reason;
      attempt++;
      ms = pauseMs(reason, attempt);
    }
    await deadline.pause(ms);
  }
}

/** So that a connection that is dead without a word is given up, and made again. */
export function endWhenSilent(response: IncomingMessage): void {
  response.setTimeout(SILENCE_MS, () => {
    const detail = `The controller said nothing for ${SILENCE_MS} ms`;
    response.destroy(new MobVibeError('connection_lost', 'unknown', detail));
  });
}

function take(
  events: ExecEvent[],
  { state, onStart }: FollowOptions,
): { chunks: OutputChunk[]; end?: ExecEnd } {
  const chunks: OutputChunk[] = [];
  for (const event of events) {
    switch (event.type) {
      case 'start':
        state.incarnation = event.incarnation;
        onStart?.();
        break;
      case 'stdout':
      case 'stderr':
        chunks.push(...advance(state.offsets, event.type, event.offset, decode(event)));
        break;
      case 'gap':
        chunks.push(...advance(state.offsets, event.stream, event.to, Buffer.alloc(0)));
        break;
      case 'end': {
        const { result, duration_ms, oom_killed = false } = event;
        return { chunks, end: { result, durationMs: duration_ms, oomKilled: oom_killed } };
      }
    }
  }
  return { chunks };
}

const decode = (event: { data: string; encoding?: 'base64' }) =>
  Buffer.from(event.data, event.encoding ?? 'utf8');

/** Puts bytes at their place: those that were had before are dropped, those that are missing are said to be. */
export function advance(offsets: Offsets, stream: OutputName, offset: number, data: Buffer): OutputChunk[] {
  const have = offsets[stream];
  const chunks: OutputChunk[] = [];
  if (offset > have) chunks.push({ stream, offset: have, lostTo: offset });
  const fresh = offset < have ? data.subarray(have - offset) : data;
  if (fresh.length > 0) chunks.push({ stream, offset: Math.max(offset, have), data: fresh });
  offsets[stream] = Math.max(have, offset + data.length);
  return chunks;
}
