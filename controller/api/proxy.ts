import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, type Readable, Transform } from 'node:stream';
import type { AgentRequest } from '../agents/link.ts';
import { CodedError } from '../errors.ts';
import type { ExecEnd } from '../sessions/exec.ts';
import { LastLine, parseEnd } from '../sessions/exec-ends.ts';
import type { AgentReply, SessionLink, SessionManager } from './deps.ts';

export const NDJSON = 'application/x-ndjson';
/** The agent answers from its own machine at once; whatever takes longer than this has broken. */
const ANSWER_TIMEOUT_MS = 30_000;
/** Its answer to a body comes after the whole of it. A client that stalls is noticed sooner (stalls.ts). */
export const UPLOAD_TIMEOUT_MS = 3_600_000;

const CLIENT_LEFT = new Error('The client has left');

/** The part of a fastify reply that is needed to follow a client; its schema types do not matter here. */
interface Responding {
  raw: ServerResponse;
  request: { raw: IncomingMessage };
}

/** Sends a request on to the session's agent, for as long as the client stays. Throws the agent's error where it answers one. */
export async function askAgent(
  manager: SessionManager,
  reply: Responding,
  sessionId: string,
  ask: AgentRequest,
): Promise<SessionLink & { answer: AgentReply }> {
  const found = await manager.link(sessionId);
  return { ...found, answer: await askLink(found, reply, ask) };
}

/** The same where the way to the agent is known. */
export async function askLink(
  { link }: Pick<SessionLink, 'link'>,
  { raw }: Responding,
  ask: AgentRequest,
): Promise<AgentReply> {
  const gone = new AbortController();
  // A reason of its own, as making the default one costs more than the rest of this; and none where all went well.
  const leave = () => raw.writableFinished || gone.abort(CLIENT_LEFT);
  if (raw.destroyed) leave();
  else raw.once('close', leave);
  const answer = await link.request({ timeoutMs: ANSWER_TIMEOUT_MS, signal: gone.signal, ...ask });
  if (answer.status >= 400) await answer.expect();
  return answer;
}

/** Asks for a JSON answer and returns it. */
export async function askAgentJson<T>(
  manager: SessionManager,
  reply: Responding,
  sessionId: string,
  ask: AgentRequest,
): Promise<{ status: number; body: T; incarnation: number }> {
  const { answer, sandbox } = await askAgent(manager, reply, sessionId, ask);
  return { status: answer.status, body: await answer.expect<T>(), incarnation: sandbox.incarnation };
}

/** A request with a JSON body. */
export function jsonBody(value: unknown): Pick<AgentRequest, 'headers' | 'body'> {
  return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}

/** `path?a=1&b=2` of the fields that were given. */
export function withQuery(path: string, query: Record<string, string | number | undefined>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return `${path}?${new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)]))}`;
}

/** A first line longer than this is not one of our agent's. */
const FIRST_LINE_BYTES = 65_536;

/**
 * The agent's stream of exec events. Only the first and the last line are looked at. The first, to say which incarnation of the sandbox
 * this is: a client that comes back asks with it, so that it can never be given the output of another machine. The last, to tell how it ended.
 */
export function withIncarnation(
  body: Readable,
  incarnation: number,
  onEnd: (end: ExecEnd) => void = () => {},
): Readable {
  let head: Buffer | null = Buffer.alloc(0);
  const last = new LastLine();
  const stamp = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      last.push(chunk);
      if (head === null) return done(null, chunk);
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
      const end = head.indexOf(0x0a);
      if (end < 0) return done(head.length > FIRST_LINE_BYTES ? strange() : null);
      const line = stampLine(head.toString('utf8', 0, end), incarnation);
      if (line === null) return done(strange());
      const stamped = Buffer.concat([Buffer.from(line), head.subarray(end)]);
      head = null;
      done(null, stamped);
    },
    flush(done) {
      const end = parseEnd(last.text);
      if (end !== null) onEnd(end);
      done();
    },
  });
  // A broken tunnel destroys the stamp with the error, a client that left destroys the tunnel's stream.
  return pipeline(body, stamp, () => {});
}

/** Null where the line is not JSON: the sandbox is not trusted, so it must not be able to throw in here. */
function stampLine(line: string, incarnation: number): string | null {
  try {
    const event = JSON.parse(line);
    return event?.type === 'start' ? JSON.stringify({ ...event, incarnation }) : line;
  } catch {
    return null;
  }
}

const strange = () => new CodedError('agent_lost', 'The agent did not answer with exec events');

/**
 * A body of announced length, which breaks off where the agent's ends early. HTTP/2 can't tell a stream that was reset without
 * an error from one that ended; a client would wait for the missing bytes for ever.
 */
export function ofLength(body: Readable, length: number): Readable {
  let missing = length;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      missing -= chunk.length;
      done(null, chunk);
    },
    flush(done) {
      done(
        missing === 0
          ? null
          : new CodedError('agent_lost', `The file broke off ${missing} bytes before its end`),
      );
    },
  });
  return pipeline(body, count, () => {});
}
