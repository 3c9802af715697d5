import { jsonLines } from '../agents/lines.ts';
import type { AgentLink, AgentRequest } from '../agents/link.ts';
import type { ExecEvent, ExecSpec } from '../agents/wire.ts';
import { CodedError } from '../errors.ts';
import { backoff, pause } from './pause.ts';

export type ExecEnd = Extract<ExecEvent, { type: 'end' }>;
/** What a follower is told; pings are not passed on. */
export type ExecProgress = Exclude<ExecEvent, { type: 'end' } | { type: 'ping' }>;

export interface ExecRun {
  id: string;
  spec: ExecSpec;
  /** The sandbox's agent, now or when it has dialed again. Rejects with `machine_lost` once it never will. */
  connect(): Promise<AgentLink>;
  /** Sent as soon as the exec has started; `spec.stdin` must be set. */
  stdin?: Uint8Array;
  /** The exec was started earlier, by whomever: only follow it. Rejects with `exec_not_found` when the agent does not know it. */
  attach?: boolean;
  /** Awaited: output is read no faster than it is taken. */
  onEvent?(event: ExecProgress): void | Promise<void>;
  /** From now until the result is given up as `unknown`. Default: the exec's own deadline and a minute. */
  deadlineMs?: number;
  signal?: AbortSignal;
  /** Milliseconds from any origin. */
  clock: () => number;
  /** In [0, 1). */
  random: () => number;
}

/** Default of `ExecSpec.timeout_ms`, see wire.ts. */
const EXEC_TIMEOUT_MS = 300_000;
/** For the agent to end what overran its deadline, and to dial again when its connection broke just then. */
const GRACE_MS = 60_000;
const ANSWER_TIMEOUT_MS = 30_000;
const RETRY_MS = 100;
const MOST_RETRY_MS = 2_000;

/**
 * Starts an exec and follows it to its end, over as many connections as that takes: the same id again attaches, and output is asked for
 * from the byte that is missing. Resolves with the agent's own `end`, or with `machine_lost` or `unknown` where there can't be one:
 * never with an exit code that nobody has seen. Rejects when the exec provably did not start.
 */
export async function runExec(run: ExecRun): Promise<ExecEnd> {
  const began = run.clock();
  const deadline = new AbortController();
  const ms = run.deadlineMs ?? (run.spec.timeout_ms ?? EXEC_TIMEOUT_MS) + GRACE_MS;
  const timer = setTimeout(() => deadline.abort(), ms);
  const follower = new Follower(run, AbortSignal.any([deadline.signal, ...(run.signal ? [run.signal] : [])]));
  try {
    return await follower.run();
  } catch (error) {
    if (run.signal?.aborted || !(error instanceof NoEnd || deadline.signal.aborted)) throw error;
    const result =
      error instanceof NoEnd
        ? ({ kind: error.kind, reason: error.message } as const)
        : ({ kind: 'unknown', reason: `The sandbox did not report the end within ${ms} ms` } as const);
    return {
      type: 'end',
      result,
      stdout_bytes: follower.offsets.stdout,
      stderr_bytes: follower.offsets.stderr,
      duration_ms: run.clock() - began,
    };
  } finally {
    clearTimeout(timer);
    // Ends what is still being sent, too.
    deadline.abort();
  }
}

/** The exec has, or may have, started, and its end will not be known. */
class NoEnd extends Error {
  readonly kind: 'machine_lost' | 'unknown';
  constructor(kind: 'machine_lost' | 'unknown', reason: string) {
    super(reason);
    this.kind = kind;
  }
}

class Follower {
  /** How much of each stream has been taken. */
  readonly offsets = { stdout: 0, stderr: 0 };
  readonly #run: ExecRun;
  readonly #signal: AbortSignal;
  #started: boolean;
  #maybeStarted: boolean;
  #stdin: Promise<void> | undefined;

  constructor(run: ExecRun, signal: AbortSignal) {
    this.#run = run;
    this.#signal = signal;
    this.#started = run.attach ?? false;
    this.#maybeStarted = this.#started;
  }

  async run(): Promise<ExecEnd> {
    for (let attempt = 1; ; attempt++) {
      try {
        const end = await this.#follow();
        if (end !== undefined) return end;
      } catch (error) {
        this.#signal.throwIfAborted();
        if (!this.#mayGoOn(error)) throw error;
      }
      await pause(backoff(attempt, this.#run.random, RETRY_MS, MOST_RETRY_MS), this.#signal);
      this.#signal.throwIfAborted();
    }
  }

  /** Reads one connection's worth; undefined when it ended before the exec did. */
  async #follow(): Promise<ExecEnd | undefined> {
    const link = await this.#run.connect();
    const reply = await link.request(this.#started ? this.#output() : this.#start());
    await reply.check();
    for await (const event of jsonLines<ExecEvent>(reply.body)) {
      switch (event.type) {
        case 'ping':
          break;
        case 'end':
          return event;
        case 'start':
          this.#started = true;
          this.#stdin ??= this.#sendStdin().catch(() => undefined);
          await this.#run.onEvent?.(event);
          break;
        case 'gap':
          this.offsets[event.stream] = Math.max(this.offsets[event.stream], event.to);
          await this.#run.onEvent?.(event);
          break;
        default:
          await this.#take(event);
      }
    }
    return undefined;
  }

  async #take(event: Extract<ExecEvent, { type: 'stdout' | 'stderr' }>): Promise<void> {
    const bytes = eventBytes(event);
    if (event.offset + bytes <= this.offsets[event.type]) return;
    this.offsets[event.type] = event.offset + bytes;
    await this.#run.onEvent?.(event);
  }

  #start(): AgentRequest {
    this.#maybeStarted = true;
    return {
      method: 'PUT',
      path: `/execs/${this.#run.id}?follow=1`,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(this.#run.spec),
      timeoutMs: ANSWER_TIMEOUT_MS,
      signal: this.#signal,
    };
  }

  #output(): AgentRequest {
    const { stdout, stderr } = this.offsets;
    return {
      method: 'GET',
      path: `/execs/${this.#run.id}/output?stdout=${stdout}&stderr=${stderr}`,
      timeoutMs: ANSWER_TIMEOUT_MS,
      signal: this.#signal,
    };
  }

  #mayGoOn(error: unknown): boolean {
    if (!(error instanceof CodedError)) return false;
    switch (error.code) {
      case 'agent_lost':
        return true;
      case 'agent_unreachable':
      case 'database_unavailable':
        // Nothing was sent yet, so the caller may as well be told.
        return this.#maybeStarted;
      case 'machine_lost':
        if (this.#maybeStarted) throw new NoEnd('machine_lost', error.detail);
        return false;
      case 'exec_not_found':
        // The agent knows nothing of an exec that it had started: it is another one, in a machine that was started anew.
        if (this.#started && !this.#run.attach) throw new NoEnd('machine_lost', 'The machine was restarted');
        return false;
      case 'exec_ended':
        // It ended while nobody followed it, and so long ago that its agent has dropped the end.
        throw new NoEnd('unknown', error.detail);
      default:
        return false;
    }
  }

  /** From the beginning on every connection: the agent drops what it has. */
  async #sendStdin(): Promise<void> {
    const { stdin } = this.#run;
    if (stdin === undefined) return;
    for (let attempt = 1; !this.#signal.aborted; attempt++) {
      try {
        const link = await this.#run.connect();
        const reply = await link.request({
          method: 'POST',
          path: `/execs/${this.#run.id}/stdin?offset=0&eof=1`,
          headers: { 'content-type': 'application/octet-stream' },
          body: stdin,
          // The process reads when it likes; what bounds it is the exec's own deadline.
          timeoutMs: 2 ** 31 - 1,
          signal: this.#signal,
        });
        await reply.expect();
        return;
      } catch (error) {
        const again = error instanceof CodedError && ['agent_lost', 'agent_unreachable'].includes(error.code);
        if (!again) return;
        await pause(backoff(attempt, this.#run.random, RETRY_MS, MOST_RETRY_MS), this.#signal);
      }
    }
  }
}

function eventBytes(event: Extract<ExecEvent, { type: 'stdout' | 'stderr' }>): number {
  return Buffer.byteLength(event.data, event.encoding ?? 'utf8');
}
