import type { AgentError, LongAnswer } from '../../../controller/agents/wire.ts';
import type { Answer } from '../rig.ts';

type Line = LongAnswer<unknown>;

interface Requester {
  request(method: string, path: string, body?: unknown): Promise<Answer>;
}

export interface Ended {
  status: number;
  progress: (Line & { type: 'progress' })[];
  // biome-ignore lint/suspicious/noExplicitAny: a test says what it expects of an answer
  result: any;
  error: AgentError | undefined;
  /** All of it as it came. */
  text: string;
}

/** Asks for a long answer and takes it apart, however its error was told. */
export async function long(rig: Requester, path: string, body: unknown): Promise<Ended> {
  return taken(await rig.request('POST', path, body));
}

export function taken(answer: Answer): Ended {
  const text = answer.body.toString();
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const last = lines.at(-1);
  return {
    status: answer.status,
    progress: lines.filter(({ type }) => type === 'progress'),
    result: last.type === 'result' ? last.result : undefined,
    error: answer.status === 200 ? last.error : last,
    text,
  };
}
