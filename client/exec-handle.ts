import type { ExecInfo } from '../controller/api/schemas.ts';
import { Deadline } from './deadline.ts';
import { type ExecEnd, type FollowState, follow, type Offsets, type OutputChunk } from './follow.ts';
import { ExecStdin } from './stdin.ts';
import type { CallOptions, Transport } from './transport.ts';

export const NDJSON = 'application/x-ndjson';
/** How long a reader tries to get back to a stream that broke, milliseconds. */
export const RECONNECT_MS = 60_000;

/** A command that was started. */
export class ExecHandle {
  readonly id: string;
  /** Its input, where it was started with `stdin: true`. */
  readonly stdin: ExecStdin;
  readonly #transport: Transport;
  readonly #path: string;
  #incarnation: number | undefined;

  constructor(
    transport: Transport,
    sessionId: string,
    id: string,
    known: { incarnation?: number; received?: number } = {},
  ) {
    this.id = id;
    this.#transport = transport;
    this.stdin = new ExecStdin((...piece) => this.#send(...piece), known.received);
    this.#path = `/v1/sessions/${sessionId}/execs/${encodeURIComponent(id)}`;
    this.#incarnation = known.incarnation;
  }

  /** What the sandbox knows of it now. */
  async info(options: CallOptions = {}): Promise<ExecInfo> {
    const ask = { method: 'GET', path: this.#path, repeatable: true };
    const info = await this.#transport.json<ExecInfo>({ ...ask, ...options });
    this.#incarnation ??= info.incarnation;
    return info;
  }

  /**
   * Its output from the given byte offsets to its end. The generator's return value says how it ended. `timeoutMs` bounds the
   * following, not the command; default 24 hours.
   */
  async *output(
    from: Partial<Offsets> = {},
    options: CallOptions = {},
  ): AsyncGenerator<OutputChunk, ExecEnd> {
    const deadline = new Deadline('Following the command', options.timeoutMs ?? 86_400_000, options.signal);
    const events = follow({
      open: (state) => openOutput(this.#transport, this.#path, state, deadline),
      state: { offsets: { stdout: 0, stderr: 0, ...from }, incarnation: this.#incarnation },
      deadline,
      reconnectMs: RECONNECT_MS,
      explain: (error) => this.#transport.explain(error),
    });
    try {
      while (true) {
        const step = await events.next();
        if (step.done) return step.value;
        yield* step.value;
      }
    } finally {
      await events.return({
        result: { kind: 'unknown', reason: 'not followed' },
        durationMs: 0,
        oomKilled: false,
      });
    }
  }

  /** Waits for its end, without its output. */
  async result(options: CallOptions = {}): Promise<ExecEnd> {
    const { stdout_bytes: stdout, stderr_bytes: stderr } = await this.info(options);
    const events = this.output({ stdout, stderr }, options);
    while (true) {
      const step = await events.next();
      if (step.done) return step.value;
    }
  }

  /** Sends a signal, e.g. `SIGINT`, to all its processes. */
  async signal(signal: NodeJS.Signals, options: CallOptions = {}): Promise<void> {
    const path = `${this.#path}/signal`;
    await this.#transport.text({ method: 'POST', path, json: { signal }, repeatable: false, ...options });
  }

  async #send(offset: number, data: Uint8Array, end: boolean, options: CallOptions): Promise<number> {
    const { received } = await this.#transport.json<{ received: number }>({
      method: 'POST',
      path: `${this.#path}/stdin`,
      query: { offset, eof: end ? 1 : undefined },
      body: data,
      // Bytes below what was received are not taken twice.
      repeatable: true,
      // Its answer waits for the command to read.
      timeoutMs: 3_600_000,
      ...options,
    });
    return received;
  }
}

export function openOutput(transport: Transport, path: string, state: FollowState, deadline: Deadline) {
  return transport.stream({
    method: 'GET',
    path: `${path}/output`,
    query: { ...state.offsets, incarnation: state.incarnation },
    accept: NDJSON,
    repeatable: true,
    deadline,
  });
}
