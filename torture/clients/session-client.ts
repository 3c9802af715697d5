import { createHash } from 'node:crypto';
import type { SessionEvent } from '../../client/index.ts';
import type { History, ObserveEntry, Seen } from '../history.ts';
import { pause } from '../pause.ts';
import { between, pick, type Random } from '../random.ts';
import { type Answer, type Ask, ask } from './api.ts';
import { observer } from './scripts.ts';

const NDJSON = 'application/x-ndjson';
/** A stream that broke off is gone back to for so long. */
const RESUME_MS = 20_000;

export interface ClientOptions {
  apiKey: string;
  /** Of the controllers; any may be asked. */
  urls: readonly string[];
  random: Random;
  history: History;
  /** Raised when clients are to come to an end. */
  over: AbortSignal;
}

export interface ExecEnd {
  answer: Answer;
  /** `exited 0` and the like; undefined when it was not seen. */
  result?: string;
  incarnation?: number;
  stdout: string;
}

/** One session's client: each call is one request, or a stream that is gone back to, written down before the call returns. */
export class SessionClient {
  readonly id: string;
  readonly history: History;
  readonly #options: ClientOptions;
  /** The newest that any answer has named. */
  incarnation = 0;
  #number = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.history = options.history;
    this.id = options.history.session;
  }

  get random(): Random {
    return this.#options.random;
  }

  /** Never used before in this session. */
  next(letter: string): string {
    this.#number += 1;
    return `${letter}${this.#number}`;
  }

  ask(request: Ask): Promise<Answer> {
    return ask(pick(this.random, this.#options.urls), this.#options.apiKey, request);
  }

  /** Opens or creates it; the status in the answer says how far that got. */
  async open(how: 'create' | 'open', waitMs: number): Promise<Answer> {
    const path = how === 'create' ? '/v1/sessions' : `/v1/sessions/${this.id}/open`;
    const body = how === 'create' ? { id: this.id } : undefined;
    return this.#turn('open', { method: 'POST', path: `${path}?wait_ms=${waitMs}`, body }, waitMs);
  }

  /** `discard`: what can't be saved is given up. */
  async stop(waitMs: number, discard = false): Promise<Answer> {
    const path = `/v1/sessions/${this.id}/stop?wait_ms=${waitMs}`;
    const body = discard ? { body: { discard_unsaved: true } } : {};
    return this.#turn('stop', { method: 'POST', path, ...body }, waitMs, discard);
  }

  async #turn(kind: 'open' | 'stop', request: Ask, waitMs: number, discard = false): Promise<Answer> {
    const sent = Date.now();
    const answer = await this.ask({ ...request, timeoutMs: waitMs + 10_000 });
    const { status, incarnation } = answer.json as { status?: string; incarnation?: number };
    if (answer.outcome === 'ack' && incarnation !== undefined)
      this.incarnation = Math.max(this.incarnation, incarnation);
    this.history.add({
      ...{ kind, sent, ended: Date.now(), ...said(answer) },
      ...(discard ? { discard } : {}),
      ...(answer.outcome === 'ack' ? { status: String(status), incarnation } : {}),
    });
    return answer;
  }

  async save(): Promise<Answer> {
    const sent = Date.now();
    const path = `/v1/sessions/${this.id}/save`;
    const answer = await this.ask({ method: 'POST', path, timeoutMs: 30_000 });
    this.history.add({ kind: 'save', sent, ended: Date.now(), ...said(answer) });
    return answer;
  }

  /** Runs a command that appends `lines`, and follows it to its end. */
  async exec(id: string, lines: string[], command: string | string[]): Promise<ExecEnd> {
    const sent = Date.now();
    const end = await this.follow(id, { command });
    const { answer, result, incarnation } = end;
    this.history.add({
      ...{ kind: 'exec', id, lines, sent, ended: Date.now() },
      ...said(answer),
      // Started, and its end was not seen.
      ...(answer.outcome === 'ack' && result === undefined ? { outcome: 'maybe' as const } : {}),
      ...(incarnation === undefined ? {} : { incarnation }),
      ...(result === undefined ? {} : { result }),
    });
    return end;
  }

  /** Starts it and reads its events; where the stream breaks after the start, from the byte that is missing. */
  async follow(id: string, spec: object, onStart?: () => void): Promise<ExecEnd> {
    let result: string | undefined;
    let incarnation: number | undefined;
    const stdout: Buffer[] = [];
    let offset = 0;
    const onLine = (line: Record<string, unknown>) => {
      if (line.type === 'start') {
        incarnation = Number(line.incarnation);
        onStart?.();
      } else if (line.type === 'stdout') {
        const data = Buffer.from(String(line.data), line.encoding === 'base64' ? 'base64' : 'utf8');
        const fresh = data.subarray(Math.max(0, offset - Number(line.offset)));
        stdout.push(fresh);
        offset += fresh.length;
      } else if (line.type === 'end') result = worded(line.result as Record<string, unknown>);
    };
    const path = `/v1/sessions/${this.id}/execs/${id}`;
    const answer = await this.ask({
      ...{ method: 'PUT', path, body: spec, headers: { accept: NDJSON }, timeoutMs: 25_000, onLine },
    });
    const until = performance.now() + RESUME_MS;
    while (incarnation !== undefined && result === undefined && performance.now() < until) {
      await pause(between(this.random, 50, 400));
      const query = `stdout=${offset}&incarnation=${incarnation}`;
      const resumed = await this.ask({ method: 'GET', path: `${path}/output?${query}`, onLine });
      if (resumed.status >= 400 && resumed.status < 500 && resumed.json.kind === 'mistake') break;
    }
    if (incarnation !== undefined) this.incarnation = Math.max(this.incarnation, incarnation);
    const known = { answer, stdout: Buffer.concat(stdout).toString() };
    return {
      ...known,
      // It had begun: what broke afterwards is no refusal.
      ...(incarnation === undefined ? {} : { answer: { ...answer, outcome: 'ack' as const }, incarnation }),
      ...(result === undefined ? {} : { result }),
    };
  }

  async write(path: string, data: Buffer): Promise<Answer> {
    const sent = Date.now();
    const url = `/v1/sessions/${this.id}/files?path=${encodeURIComponent(path)}`;
    const answer = await this.ask({ method: 'PUT', path: url, bytes: data });
    const value = contentOf(data);
    this.history.add({ kind: 'write', path, value, sent, ended: Date.now(), ...said(answer) });
    return answer;
  }

  async remove(path: string): Promise<Answer> {
    const sent = Date.now();
    const url = `/v1/sessions/${this.id}/files?path=${encodeURIComponent(path)}`;
    const answer = await this.ask({ method: 'DELETE', path: url });
    // Not there is as good as removed, if it stays so; who knows.
    if (answer.code !== 'file_not_found')
      this.history.add({ kind: 'write', path, value: null, sent, ended: Date.now(), ...said(answer) });
    return answer;
  }

  /** Looks at all of the workspace. `deep`: nobody writes, says the caller. Undefined when it could not be seen. */
  async observe(deep: boolean): Promise<ObserveEntry | undefined> {
    const sent = Date.now();
    const end = await this.follow(this.next('o'), { command: observer(deep), timeout_ms: 20_000 });
    // Of what has ended before its agent was restarted the output is gone.
    if (end.result !== 'exited 0' || end.incarnation === undefined || end.stdout === '') return undefined;
    const seen = JSON.parse(end.stdout) as Seen;
    const { incarnation } = end;
    this.history.add({ kind: 'observe', sent, ended: Date.now(), outcome: 'ack', incarnation, seen });
    return this.history.entries.at(-1) as ObserveEntry;
  }

  /** All of them, oldest first. */
  async events(): Promise<SessionEvent[] | undefined> {
    const events: SessionEvent[] = [];
    for (let cursor = ''; ; ) {
      const path = `/v1/sessions/${this.id}/events?limit=200${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const answer = await this.ask({ method: 'GET', path });
      if (answer.outcome !== 'ack') return answer.status === 404 ? [] : undefined;
      const page = answer.json as unknown as { items: SessionEvent[]; next_cursor: string | null };
      events.push(...page.items);
      if (page.next_cursor === null) return events.sort((a, b) => a.id - b.id);
      cursor = encodeURIComponent(page.next_cursor);
    }
  }
}

export const said = ({ outcome, code }: Answer) => ({ outcome, ...(code === undefined ? {} : { code }) });

/** A file's content as `observer` tells of it. */
export function contentOf(data: Buffer): string {
  return `${data.length}:${createHash('sha256').update(data).digest('hex').slice(0, 16)}`;
}

function worded(result: Record<string, unknown>): string {
  const { kind, code, signal, by } = result;
  return [kind, code ?? signal, by].filter((word) => word !== undefined).join(' ');
}
