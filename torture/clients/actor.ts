import { pause } from '../pause.ts';
import { between, weighted } from '../random.ts';
import type { Answer } from './api.ts';
import type { SessionClient } from './session-client.ts';
import { Work } from './work.ts';

/** A sandbox is given so long to be there, all tries together. */
const OPEN_MS = 60_000;

/** How a turn of work ends. */
const ENDINGS = {
  /** Goes on in the same sandbox. */
  none: 30,
  quiet_stop: 12,
  /** Work goes on until it is refused. */
  busy_stop: 26,
  /** Not waited for; work goes on until it is refused. */
  unawaited_stop: 16,
  /** A stop, and at once an open: cancelled, or a new sandbox. */
  canceled_stop: 16,
  /** What can't be saved is given up, where the API knows of that. */
  discarding_stop: 3,
};

/** Uses one session as its user would, until it is over. */
export class Actor {
  readonly client: SessionClient;
  readonly work: Work;
  readonly #over: AbortSignal;
  #created = false;
  /** The sandbox that was looked at last. */
  #seen = 0;

  constructor(client: SessionClient, over: AbortSignal) {
    this.client = client;
    this.work = new Work(client);
    this.#over = over;
  }

  async run(): Promise<void> {
    while (!this.#over.aborted) {
      if (!(await this.#open())) continue;
      await this.#turn();
    }
  }

  async #turn(): Promise<void> {
    const { client, work } = this;
    const { random } = client;
    if (this.#seen !== client.incarnation) {
      // Before anything writes; where a look at this sandbox has failed before, something may be at it already.
      const deep = work.writersIn < client.incarnation;
      if ((await client.observe(deep)) !== undefined) this.#seen = client.incarnation;
      if (random() < 0.7) await work.repeat();
      if (random() < 0.4) await work.conflict();
    }
    const lanes = between(random, 1, 2);
    await this.#lanes(lanes, between(random, 3, 9));
    await this.#end(weighted(random, ENDINGS));
    await work.askJobs();
  }

  #lanes(count: number, most: number): Promise<unknown> {
    return Promise.all(Array.from({ length: count }, () => this.work.lane(most, this.#over)));
  }

  async #end(how: keyof typeof ENDINGS): Promise<void> {
    const { client } = this;
    switch (how) {
      case 'none':
        return;
      case 'quiet_stop':
        return void (await client.stop(20_000));
      case 'busy_stop':
        return void (await Promise.all([this.#lanes(3, 40), this.#after(() => client.stop(20_000))]));
      case 'unawaited_stop':
        return void (await Promise.all([this.#lanes(3, 40), this.#after(() => client.stop(0))]));
      case 'canceled_stop':
        return void (await Promise.all([this.#lanes(1, 10), this.#after(() => this.#cancel())]));
      case 'discarding_stop':
        return void (await Promise.all([this.#lanes(2, 20), this.#after(() => client.stop(20_000, true))]));
    }
  }

  #cancel(): Promise<Answer> {
    const how = this.client.random() < 0.5 ? 'create' : 'open';
    return this.client.stop(0).then(() => this.client.open(how, 20_000));
  }

  async #after(stop: () => Promise<Answer>): Promise<void> {
    await pause(between(this.client.random, 50, 500));
    await stop();
  }

  /** Until its sandbox is ready, through any controller. False when that took too long, or it is over. */
  async #open(): Promise<boolean> {
    const { random } = this.client;
    const until = performance.now() + OPEN_MS;
    while (!this.#over.aborted && performance.now() < until) {
      const how = !this.#created || random() < 0.3 ? 'create' : 'open';
      const answer = await this.client.open(how, random() < 0.2 ? 0 : 20_000);
      if (answer.outcome === 'ack') this.#created = true;
      if (answer.json.status === 'ready') return true;
      await pause(answer.retryAfterMs ?? between(random, 200, 800), this.#over);
    }
    return false;
  }
}
