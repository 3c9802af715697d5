import { request } from 'node:http';

export interface PulseTimes {
  /** Who was heard so lately is not asked before something is sent. */
  freshMs: number;
  /** For an answer, before something is sent. */
  answerMs: number;
  /** How often is asked while something is waited for. */
  everyMs: number;
  /** For an answer then: with the pause before, the sum is how long a process may stand still unnoticed. */
  silentMs: number;
}

/** Of both bounds the sum is 5 s. */
const TIMES: PulseTimes = { freshMs: 1_000, answerMs: 5_000, everyMs: 2_000, silentMs: 3_000 };
/** No port for us, but a kernel that says so: a controller that shuts down takes no new connection while it ends what is under way. */
const REFUSALS: ReadonlySet<string | undefined> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE']);

/** A controller that stands still: its kernel takes connections and bytes, and nothing comes back. */
export class PeerSilent extends Error {
  override readonly name = 'PeerSilent';
}

interface Watched {
  listeners: Set<(error: PeerSilent) => void>;
  timer: NodeJS.Timeout;
}

/**
 * Whether other controllers are at work: a process that was stopped, or a host that is gone, looks like one that takes its time. What may take
 * long goes on as long as the other says that it is there.
 */
export class Pulse {
  readonly #times: PulseTimes;
  readonly #monotonic: () => number;
  readonly #heardAt = new Map<string, number>();
  readonly #asking = new Map<string, Promise<Sign>>();
  readonly #watched = new Map<string, Watched>();

  constructor(times: Partial<PulseTimes> = {}, monotonic: () => number = () => performance.now()) {
    this.#times = { ...TIMES, ...times };
    this.#monotonic = monotonic;
  }

  /** The controller has answered something. */
  heard(address: string): void {
    this.#heardAt.set(address, this.#monotonic());
  }

  /** To be called before anything is sent. Rejects with `PeerSilent` where the controller does not answer in time. */
  async assure(address: string): Promise<void> {
    const heardAt = this.#heardAt.get(address) ?? Number.NEGATIVE_INFINITY;
    if (this.#monotonic() - heardAt < this.#times.freshMs) return;
    let asking = this.#asking.get(address);
    if (asking === undefined) {
      asking = this.#ask(address, this.#times.answerMs).finally(() => this.#asking.delete(address));
      this.#asking.set(address, asking);
    }
    const sign = await asking;
    if (sign !== 'alive')
      throw silent(address, sign === 'refused' ? 'takes no connection' : 'does not answer');
  }

  /** Calls back when the controller has stood still, until the answer is called. */
  watch(address: string, onSilent: (error: PeerSilent) => void): () => void {
    let watched = this.#watched.get(address);
    if (watched === undefined) {
      const timer = setInterval(() => void this.#look(address), this.#times.everyMs).unref();
      watched = { listeners: new Set(), timer };
      this.#watched.set(address, watched);
    }
    const { listeners, timer } = watched;
    listeners.add(onSilent);
    return () => {
      listeners.delete(onSilent);
      if (listeners.size > 0 || this.#watched.get(address) !== watched) return;
      clearInterval(timer);
      this.#watched.delete(address);
    };
  }

  async #look(address: string): Promise<void> {
    // Whoever came later has waited for less.
    const waiting = [...(this.#watched.get(address)?.listeners ?? [])];
    if ((await this.#ask(address, this.#times.silentMs)) !== 'silent') return;
    const still = this.#watched.get(address)?.listeners;
    for (const listener of waiting) if (still?.has(listener)) listener(silent(address, 'stands still'));
  }

  async #ask(address: string, timeoutMs: number): Promise<Sign> {
    const sign = await signOfLife(address, timeoutMs);
    if (sign === 'alive') this.heard(address);
    return sign;
  }
}

type Sign = 'alive' | 'refused' | 'silent';

/** On a connection of its own: no idle one that is just being closed. */
function signOfLife(address: string, timeoutMs: number): Promise<Sign> {
  return new Promise((resolve) => {
    const outgoing = request(`${address}/healthz`, { agent: false });
    const settle = (sign: Sign) => {
      clearTimeout(timer);
      outgoing.destroy();
      resolve(sign);
    };
    // Where it was this process that stood still, the answer may be here already, and is read first.
    const timer = setTimeout(() => setImmediate(() => settle('silent')), timeoutMs);
    outgoing.once('response', () => settle('alive'));
    outgoing.on('error', (error: NodeJS.ErrnoException) =>
      settle(REFUSALS.has(error.code) ? 'refused' : 'silent'),
    );
    outgoing.end();
  });
}

function silent(address: string, how: string): PeerSilent {
  return new PeerSilent(`${address} ${how}`);
}
