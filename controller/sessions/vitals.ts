import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import { type AgentLink, NO_ANSWER } from '../agents/link.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import type { Cells } from './cells.ts';

export interface VitalsDeps {
  store: Pick<Store, 'findSandbox' | 'sandboxUnresponsive' | 'agentRestarted'>;
  cells: Pick<Cells, 'holds'>;
  hub: AgentHub;
  changed(row: SandboxRow): void;
  /** An agent that is silent for so long is unresponsive. */
  silenceMs: number;
  log: Logger;
}

const ACTOR = 'lifecycle';
/** At least so long a ping has gone unanswered when its connection is closed for that (hub.ts). */
const UNANSWERED_MS = 10_000;

/**
 * Whether the agents of ready sandboxes answer. One whose connection ended, for want of an answer to a ping or otherwise, and that does not
 * dial again in time makes its session `unresponsive`: calls then fail at once, and it is ready again as soon as the agent dials. Also tells
 * of agents that were restarted inside their machine.
 */
export class Vitals {
  readonly #deps: VitalsDeps;
  readonly #silent = new Map<string, NodeJS.Timeout>();
  readonly #unresponsive = new Set<string>();
  #ended = false;

  constructor(deps: VitalsDeps) {
    this.#deps = deps;
    deps.hub.on('connect', this.#onConnect);
    deps.hub.on('disconnect', this.#onDisconnect);
  }

  /** A look at all sandboxes of a cell: those whose agent is not connected here are waited for from now on. */
  seen(sandboxes: readonly SandboxRow[]): void {
    for (const { name, state, unresponsive_since } of sandboxes) {
      if (state !== 'ready') continue;
      if (unresponsive_since !== null) this.#unresponsive.add(name);
      const connected = this.#deps.hub.get(name)?.connected ?? false;
      if (connected && unresponsive_since !== null) this.#note(name, false, 'its agent is connected');
      if (!connected && unresponsive_since === null) this.#wait(name, this.#deps.silenceMs);
    }
  }

  stop(): void {
    this.#ended = true;
    this.#deps.hub.off('connect', this.#onConnect);
    this.#deps.hub.off('disconnect', this.#onDisconnect);
    for (const timer of this.#silent.values()) clearTimeout(timer);
    this.#silent.clear();
  }

  readonly #onConnect = (link: AgentLink): void => {
    clearTimeout(this.#silent.get(link.sandbox));
    this.#silent.delete(link.sandbox);
    if (this.#unresponsive.has(link.sandbox)) this.#note(link.sandbox, false, 'its agent has dialed again');
    if (link.restarted !== undefined) this.#tellRestart(link, link.restarted);
  };

  /** The silence began when the agent was last heard, not when that was noticed. */
  readonly #onDisconnect = (link: AgentLink, reason: string): void => {
    const silentMs = reason === NO_ANSWER ? UNANSWERED_MS : 0;
    this.#wait(link.sandbox, Math.max(0, this.#deps.silenceMs - silentMs));
  };

  #wait(name: string, ms: number): void {
    if (this.#ended || this.#silent.has(name)) return;
    const timer = setTimeout(() => {
      this.#silent.delete(name);
      if (this.#deps.hub.get(name) !== undefined) return;
      this.#note(name, true, `its agent has said nothing for ${this.#deps.silenceMs} ms`);
    }, ms);
    timer.unref();
    this.#silent.set(name, timer);
  }

  #note(name: string, unresponsive: boolean, why: string): void {
    this.#write(name, unresponsive, why).catch((error: unknown) =>
      this.#deps.log.warn({ sandbox: name, unresponsive, err: error }, 'the state of an agent was not noted'),
    );
  }

  async #write(name: string, unresponsive: boolean, why: string): Promise<void> {
    const { store, cells, hub, changed, log } = this.#deps;
    const row = await store.findSandbox(name);
    if (row?.state !== 'ready' || !cells.holds(row.app)) return void this.#unresponsive.delete(name);
    if (unresponsive && hub.get(name) !== undefined) return;
    const now = await store.sandboxUnresponsive(row, unresponsive, why, ACTOR);
    if (unresponsive) this.#unresponsive.add(name);
    else this.#unresponsive.delete(name);
    log[unresponsive ? 'warn' : 'info']({ sandbox: name, unresponsive, why }, 'agent');
    changed(now);
    // It may have called, or gone, while this was written.
    const connected = hub.get(name) !== undefined;
    if (connected === unresponsive) this.#note(name, !connected, 'it changed meanwhile');
  }

  #tellRestart(link: AgentLink, reason: string): void {
    const { store, log } = this.#deps;
    log.warn({ sandbox: link.sandbox, reason }, 'agent was restarted in its machine');
    store
      .findSandbox(link.sandbox)
      .then((row) => row && store.agentRestarted(row, link.boot ?? 'unknown', reason, ACTOR))
      .catch((error: unknown) => log.warn({ sandbox: link.sandbox, err: error }, 'a restart was not noted'));
  }
}
