import type { SessionEvent } from '../../client/index.ts';
import type { Entry, NewEntry, Seen, SessionHistory } from '../../torture/history.ts';

/** A session's history told by hand; each sentence takes a second, the first is at second 1. */
export class Story implements SessionHistory {
  readonly session = 's';
  readonly entries: Entry[] = [];
  readonly events: SessionEvent[] = [];
  #now = 0;

  get now(): number {
    return this.#now;
  }

  add(
    entry: NewEntry extends infer E ? (E extends NewEntry ? Omit<E, 'sent' | 'ended'> : never) : never,
  ): this {
    this.#now += 1_000;
    const sent = this.#now;
    const timed = { n: this.entries.length + 1, sent, ended: sent + 500, ...entry };
    this.entries.push(timed as unknown as Entry);
    return this;
  }

  /** The last entry took so long, in the background of what is told next. */
  lasting(ms: number): this {
    const last = this.entries.at(-1)!;
    last.ended = last.sent + ms;
    return this;
  }

  event(
    kind: string,
    incarnation: number,
    data: object,
    reason: string | null = null,
    actor = 'lifecycle',
  ): this {
    this.#now += 1_000;
    this.events.push({
      ...{ id: this.events.length + 1, session_id: this.session, sandbox: `s-s-${incarnation}` },
      ...{
        kind,
        actor,
        reason,
        data: data as Record<string, unknown>,
        at: new Date(this.#now).toISOString(),
      },
    });
    return this;
  }

  /** A sandbox is made and ready. */
  ready(incarnation: number, machine = `m${incarnation}`): this {
    return this.event('sandbox.planned', incarnation, { sandbox: { state: 'planned' } })
      .event('sandbox.created', incarnation, { sandbox: { state: 'created', machine_id: machine } })
      .event('sandbox.ready', incarnation, { sandbox: { state: 'ready' } });
  }

  /** A stop is asked for and is under way. */
  stopping(incarnation: number): this {
    this.add({ kind: 'stop', outcome: 'ack', status: 'stopping', incarnation });
    const data = { sandbox: { state: 'stopping' }, session: { status: 'stopping' } };
    return this.event('session.stopping', incarnation, data, 'requested', 'api:k');
  }

  /** The sandbox goes; with a failure, its loss is announced. */
  gone(incarnation: number, failure?: string): this {
    const reason = failure === undefined ? 'requested' : `failed ${failure}: so it is`;
    return this.event('sandbox.destroying', incarnation, { sandbox: { state: 'destroying' } }, reason).event(
      'sandbox.gone',
      incarnation,
      { sandbox: { state: 'gone' }, session: { error: failure === undefined ? null : { code: failure } } },
      reason,
    );
  }

  exec(id: string, incarnation: number, more: object = {}): this {
    return this.add({
      ...{ kind: 'exec', id, lines: [id], outcome: 'ack', incarnation, result: 'exited 0' },
      ...more,
    });
  }

  look(incarnation: number, seen: Partial<Seen>): this {
    const all = { log: [], jobs: [], files: {}, ...seen };
    return this.add({ kind: 'observe', outcome: 'ack', incarnation, seen: all });
  }
}
