import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { ExecInfo, ExecSpec } from '../controller/api/schemas.ts';
import { Deadline } from './deadline.ts';
import { ExecHandle, NDJSON, openOutput, RECONNECT_MS } from './exec-handle.ts';
import { type ExecOutcome, Kept, outcome } from './exec-outcome.ts';
import { type FollowState, follow } from './follow.ts';
import { newId } from './ids.ts';
import { feed } from './stdin.ts';
import type { CallOptions, Transport } from './transport.ts';

/** Deadline of a command when none is given, milliseconds. */
export const DEFAULT_EXEC_TIMEOUT_MS = 300_000;
/** The sandbox ends a command at its deadline and 5 s later for certain; the answer then needs its way. */
const GRACE_MS = 30_000;

export interface StartOptions {
  /**
   * The same id again attaches to the command that runs, or tells how it ended; it never runs twice in the life of the session. Rejects
   * with `exec_lost` where its sandbox is gone and its end was not seen. Default: a new one.
   */
  id?: string;
  /** Absolute, or relative to `/workspace`. Default `/workspace`. */
  cwd?: string;
  /** Added to the sandbox's own environment. */
  env?: Record<string, string>;
  /** Deadline of the command: its processes get SIGTERM then, and SIGKILL 5 s later. Default 300000. */
  timeoutMs?: number;
  /** Gives up the call; a command that was started goes on. */
  signal?: AbortSignal;
}

export interface ExecOptions extends Omit<StartOptions, 'signal'> {
  /** Ends the command (SIGKILL) and the call. */
  signal?: AbortSignal;
  /** Its whole input. Default: empty. A stream that fails ends the command (SIGKILL), and the call fails with its error. */
  stdin?: string | Uint8Array | Readable;
  onStdout?: (data: Buffer) => void;
  onStderr?: (data: Buffer) => void;
  /** How much of each stream is kept for the outcome; the callbacks get all of it. Default 10 MiB. */
  maxOutputBytes?: number;
}

/** The commands of one session. */
export class Execs {
  readonly #transport: Transport;
  readonly #session: { id: string };

  constructor(transport: Transport, session: { id: string }) {
    this.#transport = transport;
    this.#session = session;
  }

  /** Runs a command to its end. A string is run by a shell, a list as it stands. */
  async run(command: string | string[], options: ExecOptions = {}): Promise<ExecOutcome> {
    const id = options.id ?? newId();
    const spec = { ...specOf(command, options), ...(options.stdin === undefined ? {} : { stdin: true }) };
    const inputFailed = new AbortController();
    const signals = [options.signal, inputFailed.signal].filter((signal) => signal !== undefined);
    const deadline = new Deadline('The command', spec.timeout_ms + GRACE_MS, AbortSignal.any(signals));
    const handle = new ExecHandle(this.#transport, this.#session.id, id, { received: 0 });
    const input = new AbortController();
    let isFed = false;
    const onStart = () => {
      if (options.stdin === undefined || isFed) return;
      isFed = true;
      // Half of its input must not look like all of it, and without an end the command would wait for more.
      feed(handle.stdin, options.stdin, input.signal).catch((error) => inputFailed.abort(error));
    };
    const stdout = new Kept(options.maxOutputBytes, options.onStdout);
    const stderr = new Kept(options.maxOutputBytes, options.onStderr);
    try {
      const events = this.#runAndFollow(id, spec, deadline, onStart);
      while (true) {
        const step = await events.next();
        if (step.done) return outcome(step.value, stdout, stderr);
        for (const chunk of step.value) (chunk.stream === 'stdout' ? stdout : stderr).add(chunk);
      }
    } catch (error) {
      if (signals.some(({ aborted }) => aborted))
        await handle.signal('SIGKILL', { timeoutMs: 5_000 }).catch(() => {});
      throw inputFailed.signal.aborted ? inputFailed.signal.reason : error;
    } finally {
      input.abort();
    }
  }

  /** Starts a command and returns at once; it goes on whether or not anyone follows it. */
  async start(
    command: string | string[],
    options: StartOptions & { /** Keep its input open. Default: empty. */ stdin?: boolean } = {},
  ): Promise<ExecHandle> {
    const id = options.id ?? newId();
    const info = await this.#transport.json<ExecInfo>({
      method: 'PUT',
      path: `/v1/sessions/${this.#session.id}/execs/${encodeURIComponent(id)}`,
      json: { ...specOf(command, options), ...(options.stdin ? { stdin: true } : {}) },
      repeatable: true,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return new ExecHandle(this.#transport, this.#session.id, id, {
      incarnation: info.incarnation,
      received: 0,
    });
  }

  /** A handle for a command that was started before, here or elsewhere. */
  async attach(id: string, options: CallOptions = {}): Promise<ExecHandle> {
    const handle = new ExecHandle(this.#transport, this.#session.id, id);
    // Tells which sandbox it is in, and that it exists.
    await handle.info(options);
    return handle;
  }

  /** The commands of the present sandbox, ended ones included. */
  async list(options: CallOptions = {}): Promise<ExecInfo[]> {
    const path = `/v1/sessions/${this.#session.id}/execs`;
    const { items } = await this.#transport.json<{ items: ExecInfo[] }>({
      method: 'GET',
      path,
      repeatable: true,
      ...options,
    });
    return items;
  }

  /** Starting and following in one request, which is what makes a short command fast. */
  #runAndFollow(id: string, spec: ExecSpec, deadline: Deadline, onStart: () => void) {
    const path = `/v1/sessions/${this.#session.id}/execs/${encodeURIComponent(id)}`;
    const open = async (state: FollowState): Promise<IncomingMessage> => {
      if (state.incarnation !== undefined) return openOutput(this.#transport, path, state, deadline);
      // Sent anew as often as the connection breaks before the first word: the id is what keeps it from running twice.
      return this.#transport.stream({
        method: 'PUT',
        path,
        json: spec,
        accept: NDJSON,
        repeatable: false,
        deadline,
      });
    };
    return follow({
      open,
      state: { offsets: { stdout: 0, stderr: 0 }, incarnation: undefined },
      deadline,
      reconnectMs: RECONNECT_MS,
      explain: (error) => this.#transport.explain(error),
      onStart,
    });
  }
}

function specOf(command: string | string[], { cwd, env, timeoutMs = DEFAULT_EXEC_TIMEOUT_MS }: StartOptions) {
  return {
    command,
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    timeout_ms: timeoutMs,
  };
}
