import { jsonLines } from '../agents/lines.ts';
import type { AgentLink } from '../agents/link.ts';
import type { AgentError, LongAnswer } from '../agents/wire.ts';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';

/** An agent that says nothing for so long has given up, or hangs. */
export const SILENCE_MS = 60_000;

/** An error of the agent's, with what it says about the object at fault. */
export class AgentFailure extends CodedError {
  /** Hash of the object. */
  readonly object: string | undefined;
  /** What the storage answered. */
  readonly answered: number | undefined;

  constructor({ code, detail, field, object, status }: Partial<AgentError>) {
    const known = code !== undefined && Object.hasOwn(ERRORS, code);
    const what = detail ?? code ?? 'the agent failed without a reason';
    super(known ? (code as ErrorCode) : 'internal', what, field === undefined ? {} : { field });
    this.object = object;
    this.answered = status;
  }
}

export interface LongCall {
  signal?: AbortSignal | undefined;
  silenceMs?: number | undefined;
}

/**
 * Asks the agent for what takes long, and waits for as long as it makes progress. Rejects with the agent's own error, and with `agent_lost`
 * when the answer broke off or nothing was heard for `silenceMs`.
 */
export async function longAnswer<T>(
  link: Pick<AgentLink, 'request'>,
  path: string,
  body: unknown,
  { signal, silenceMs = SILENCE_MS }: LongCall = {},
): Promise<T> {
  const reply = await link.request({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    timeoutMs: silenceMs,
    ...(signal && { signal }),
  });
  if (reply.status >= 400) {
    const said = await reply.json<Partial<AgentError>>();
    throw new AgentFailure({ ...said, detail: said?.detail ?? `The agent answered ${reply.status}` });
  }
  // An agent from before there were long answers says all in one.
  if (!String(reply.headers['content-type']).includes('ndjson')) return reply.json<T>();
  const silent = () => {
    const detail = `No progress for ${silenceMs} ms (POST ${path})`;
    reply.body.destroy(new CodedError('agent_lost', detail));
  };
  const timer = setTimeout(silent, silenceMs);
  try {
    for await (const line of jsonLines<LongAnswer<T>>(reply.body)) {
      timer.refresh();
      if (line.type === 'result') return line.result;
      if (line.type === 'error') throw new AgentFailure(line.error);
    }
  } finally {
    clearTimeout(timer);
    reply.body.destroy();
  }
  throw new CodedError('agent_lost', `The agent's answer ended without a result (POST ${path})`);
}
