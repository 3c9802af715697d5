import { randomBytes } from 'node:crypto';
import { pause } from '../pause.ts';
import { between, pick, weighted } from '../random.ts';
import type { Answer } from './api.ts';
import { GIT_WRITER, sqliteWriter } from './scripts.ts';
import { contentOf, type SessionClient, said } from './session-client.ts';

/** The session has no sandbox for this work now: the lane that gets one of these ends. */
const CLOSED = new Set(['session_stopping', 'session_not_open', 'session_not_found', 'save_failed']);
const PATHS = ['f/0', 'f/1', 'f/2', 'f/3', 'f/4', 'f/5'];

const WORK = {
  append: 30,
  /** May be under way when a stop comes. */
  slow_append: 30,
  write: 20,
  large_write: 2,
  remove: 4,
  stdin: 8,
  job: 9,
  repeat: 6,
  conflict: 3,
  save: 3,
  sqlite: 2,
  git: 2,
  look: 2,
};

/** What one session's lanes share: what was used before, so that it can be used again. */
export class Work {
  readonly #client: SessionClient;
  /** Commands by their id. */
  readonly #execs = new Map<string, { lines: string[]; command: string }>();
  /** Those that are known to have run. */
  readonly #ran = new Set<string>();
  readonly jobs = new Map<string, 'open' | 'ended'>();
  /** The newest sandbox in which a program may be writing in the background. */
  writersIn = 0;
  /** Paths with a write under way: two at once have no order. */
  readonly #busy = new Set<string>();

  constructor(client: SessionClient) {
    this.#client = client;
  }

  /** One thing after another until there is no sandbox to do it in, or `most` were done. */
  async lane(most: number, over: AbortSignal): Promise<void> {
    const { random } = this.#client;
    for (let done = 0; done < most && !over.aborted; done++) {
      const answer = await this.#one(weighted(random, WORK));
      if (answer !== undefined && CLOSED.has(answer.code ?? '')) return;
      if (answer !== undefined && answer.outcome !== 'ack') await pause(between(random, 100, 600), over);
    }
  }

  /** Ids of before, in this sandbox or a later one. */
  async repeat(): Promise<Answer | undefined> {
    const used = [...this.#execs];
    if (used.length === 0) return undefined;
    const [id, { lines, command }] = pick(this.#client.random, used.slice(-30));
    return (await this.#client.exec(id, lines, command)).answer;
  }

  /** The id of one that has run must be refused for another command. */
  async conflict(): Promise<Answer | undefined> {
    const used = [...this.#ran];
    if (used.length === 0) return undefined;
    const id = pick(this.#client.random, used.slice(-30));
    return (await this.#client.follow(id, { command: `echo '!${id}' >> log.txt` })).answer;
  }

  /** Asks about jobs that were not seen to end. */
  async askJobs(): Promise<void> {
    for (const [id, state] of this.jobs) {
      if (state === 'ended') continue;
      const sent = Date.now();
      const answer = await this.#client.ask({ method: 'GET', path: `/v1/jobs/${id}` });
      // A create that nobody answered may never have come.
      if (answer.status === 404) this.jobs.set(id, 'ended');
      if (answer.outcome !== 'ack') continue;
      const { status, result } = answer.json as { status: string; result?: { result?: object } };
      if (status === 'queued' || status === 'running') continue;
      this.jobs.set(id, 'ended');
      const { kind, code, signal } = (result?.result ?? {}) as Record<string, unknown>;
      const words = [kind, code ?? signal].filter((word) => word !== undefined).join(' ');
      this.#client.history.add({
        ...{ kind: 'job_end', id, status, result: words, sent, ended: Date.now(), outcome: 'ack' },
      });
    }
  }

  async #one(what: keyof typeof WORK): Promise<Answer | undefined> {
    const client = this.#client;
    switch (what) {
      case 'append':
        return this.#append(1);
      case 'slow_append':
        return this.#append(between(client.random, 2, 6));
      case 'write':
        return this.#write(between(client.random, 20, 20_000));
      case 'large_write':
        return this.#write(1_500_000);
      case 'remove':
        return this.#atPath((path) => client.remove(path));
      case 'stdin':
        return this.#stdin();
      case 'job':
        return this.#job();
      case 'repeat':
        return this.repeat();
      case 'conflict':
        return this.conflict();
      case 'save':
        return client.save();
      case 'sqlite':
        return this.#background(sqliteWriter(pick(client.random, ['wal', 'delete'] as const)));
      case 'git':
        return this.#background(GIT_WRITER);
      case 'look':
        await client.observe(false);
        return undefined;
    }
  }

  async #append(count: number): Promise<Answer> {
    const client = this.#client;
    const id = client.next('x');
    const lines = count === 1 ? [id] : linesOf(id, count);
    const command = appending(lines, 'log.txt', between(client.random, 1, 10));
    this.#execs.set(id, { lines, command });
    const { answer, result } = await client.exec(id, lines, command);
    if (result !== undefined) this.#ran.add(id);
    // Whoever does not know may ask again: the same id runs once.
    if (result !== undefined || answer.outcome === 'refused' || client.random() < 0.4) return answer;
    return (await client.exec(id, lines, command)).answer;
  }

  #write(bytes: number): Promise<Answer | undefined> {
    return this.#atPath((path) => this.#client.write(path, randomBytes(bytes)));
  }

  async #atPath(write: (path: string) => Promise<Answer>): Promise<Answer | undefined> {
    const free = PATHS.filter((path) => !this.#busy.has(path));
    if (free.length === 0) return undefined;
    const path = pick(this.#client.random, free);
    this.#busy.add(path);
    try {
      return await write(path);
    } finally {
      this.#busy.delete(path);
    }
  }

  /** A file by an exec's input, in two pieces. */
  async #stdin(): Promise<Answer> {
    const client = this.#client;
    const sent = Date.now();
    const id = client.next('i');
    const path = `in/${id}`;
    const data = randomBytes(between(client.random, 100, 5_000));
    const middle = data.length >> 1;
    let wholly = false;
    const feed = async () => {
      wholly =
        (await this.#input(id, 0, data.subarray(0, middle))) &&
        (await this.#input(id, middle, data.subarray(middle)));
    };
    let fed: Promise<void> | undefined;
    const command = `mkdir -p in && cat > ${path}`;
    const end = await client.follow(id, { command, stdin: true, timeout_ms: 20_000 }, () => {
      fed ??= feed();
    });
    await fed;
    const { answer } = end;
    const outcome =
      end.result === 'exited 0' && wholly ? 'ack' : answer.outcome === 'refused' ? 'refused' : 'maybe';
    client.history.add({
      ...{
        kind: 'write',
        path,
        value: contentOf(data),
        partial: true,
        sent,
        ended: Date.now(),
        ...said(answer),
      },
      outcome,
    });
    return answer;
  }

  /** Safe to repeat: what was received before is not taken twice. */
  async #input(id: string, offset: number, bytes: Buffer): Promise<boolean> {
    const end = offset === 0 ? '' : '&eof=1';
    const path = `/v1/sessions/${this.#client.id}/execs/${id}/stdin?offset=${offset}${end}`;
    for (let tries = 0; tries < 5; tries++) {
      const answer = await this.#client.ask({ method: 'POST', path, bytes, timeoutMs: 5_000 });
      if (answer.outcome === 'ack') return true;
      if (answer.json.kind === 'mistake') return false;
      await pause(200);
    }
    return false;
  }

  async #job(): Promise<Answer> {
    const client = this.#client;
    const sent = Date.now();
    const id = `${client.id}-${client.next('j')}`;
    const lines = linesOf(id, between(client.random, 2, 3));
    const body = {
      id,
      session_id: client.id,
      command: appending(lines, 'jobs.txt', between(client.random, 1, 8)),
      max_attempts: 5,
    };
    const answer = await client.ask({ method: 'POST', path: '/v1/jobs', body });
    client.history.add({ kind: 'job', id, lines, sent, ended: Date.now(), ...said(answer) });
    if (answer.outcome !== 'refused') this.jobs.set(id, 'open');
    return answer;
  }

  /** Goes on until it is killed; nobody follows it. */
  async #background(command: string | string[]): Promise<Answer> {
    const id = this.#client.next('w');
    const path = `/v1/sessions/${this.#client.id}/execs/${id}`;
    this.writersIn = Math.max(this.writersIn, this.#client.incarnation);
    const answer = await this.#client.ask({ method: 'PUT', path, body: { command, timeout_ms: 20_000 } });
    this.writersIn = Math.max(this.writersIn, Number(answer.json?.incarnation ?? this.#client.incarnation));
    return answer;
  }
}

const linesOf = (id: string, count: number) => Array.from({ length: count }, (_, n) => `${id}.${n + 1}`);

/** One line after another, with a pause between. */
function appending(lines: string[], file: string, tenths: number): string {
  return lines.map((line) => `echo ${line} >> ${file}`).join(` && sleep ${(tenths / 10).toFixed(1)} && `);
}
