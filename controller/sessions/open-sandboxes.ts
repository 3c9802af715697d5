import type { EventEmitter } from 'node:events';
import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow, SessionRow } from '../store/rows.ts';
import { checkSessionId } from './requests.ts';

export interface OpenSandbox {
  link: AgentLink;
  session: SessionRow;
  sandbox: SandboxRow;
}

export interface OpenSandboxesDeps {
  store: Store;
  hub: AgentHub;
  /** Every transition made by this process. */
  changes: EventEmitter<{ change: [row: SandboxRow] }>;
  clock: () => number;
}

/** How long a call waits for a sandbox that is starting or an agent that is dialing again. */
const LINK_WAIT_MS = 10_000;
/** While an exec waits for its agent to come back, the row is asked this often whether it ever will. */
const RECONNECT_SLICE_MS = 2_000;
/** Init restarts an agent that hangs within this time. */
export const UNRESPONSIVE_RETRY_MS = 10_000;
/** `last_active_at` need not be exacter than this. */
const TOUCH_MS = 30_000;

/** The way to each open session's agent, known without asking the database: what keeps it out of each exec. */
export class OpenSandboxes {
  readonly #deps: OpenSandboxesDeps;
  readonly #open = new Map<string, OpenSandbox>();
  readonly #touched = new Map<string, number>();
  #changes = 0;

  constructor(deps: OpenSandboxesDeps) {
    this.#deps = deps;
    deps.changes.on('change', (row) => {
      this.#changes += 1;
      this.#forget(row.session_id);
    });
    deps.hub.on('disconnect', (link) => {
      for (const [id, open] of this.#open) if (open.link === link) this.#forget(id);
    });
  }

  /** The session's agent is connected here: no question where a request about it belongs. */
  knows(sessionId: string): boolean {
    return this.#open.get(sessionId)?.link.connected ?? false;
  }

  /**
   * The session's sandbox and the connection to it. Rejects with `session_not_found`, `session_not_open`, `session_stopping`,
   * `agent_unresponsive`, or `agent_unreachable` when a starting sandbox or a dialing agent takes too long.
   */
  async link(sessionId: string): Promise<OpenSandbox> {
    const known = this.#open.get(sessionId);
    if (known?.link.connected) {
      this.#touch(sessionId);
      return known;
    }
    checkSessionId(sessionId);
    const until = this.#deps.clock() + LINK_WAIT_MS;
    for (;;) {
      const changesBefore = this.#changes;
      const [session, sandbox] = await Promise.all([
        this.#deps.store.getSession(sessionId),
        this.#deps.store.findLiveSandbox(sessionId),
      ]);
      if (session.status === 'unresponsive') {
        throw new CodedError('agent_unresponsive', `The agent of session "${sessionId}" does not answer`, {
          retryAfterMs: UNRESPONSIVE_RETRY_MS,
        });
      }
      if (session.status === 'stopping') {
        throw new CodedError('session_stopping', `Session "${sessionId}" is being stopped`);
      }
      if (sandbox === null || session.status === 'stopped' || session.status === 'failed') {
        const why = session.error === null ? session.status : `failed (${session.error.code})`;
        throw new CodedError('session_not_open', `Session "${sessionId}" is ${why}; open it first`);
      }
      const remainingMs = until - this.#deps.clock();
      if (session.status === 'ready' && sandbox.state === 'ready') {
        const link = this.#deps.hub.get(sandbox.name);
        if (link?.connected) return this.#remember({ link, session, sandbox }, changesBefore);
        // Whether it is still ready when the agent has called is read again.
        await this.#deps.hub.waitFor(sandbox.name, { timeoutMs: Math.max(1, remainingMs) });
        continue;
      }
      if (remainingMs <= 0) {
        throw new CodedError('agent_unreachable', `The sandbox of session "${sessionId}" is still starting`);
      }
      await this.#changeOf(sandbox.name, remainingMs);
    }
  }

  /** As `link`, also while the session is being stopped: for what only reads. */
  async linkAny(sessionId: string): Promise<OpenSandbox> {
    checkSessionId(sessionId);
    const sandbox = await this.#deps.store.findLiveSandbox(sessionId);
    if (sandbox?.state !== 'stopping') return this.link(sessionId);
    const [session, link] = await Promise.all([
      this.#deps.store.getSession(sessionId),
      this.#deps.hub.waitFor(sandbox.name, { timeoutMs: LINK_WAIT_MS }),
    ]);
    return { link, session, sandbox };
  }

  /** The same sandbox's agent again, or `machine_lost`: never another sandbox of the session. */
  async reconnect(sandbox: SandboxRow): Promise<AgentLink> {
    const present = this.#deps.hub.get(sandbox.name);
    if (present?.connected) return present;
    const row = await this.#deps.store.findSandbox(sandbox.name);
    if (row === null || row.state === 'destroying' || row.state === 'gone') {
      throw new CodedError(
        'machine_lost',
        `Sandbox ${sandbox.name} is ${row?.state ?? 'gone'}: ${row?.reason ?? ''}`,
      );
    }
    return this.#deps.hub.waitFor(sandbox.name, { timeoutMs: RECONNECT_SLICE_MS });
  }

  /** Not kept when anything was changed here since the rows were asked for: they may be older than that. */
  #remember(open: OpenSandbox, changesBefore: number): OpenSandbox {
    if (this.#changes === changesBefore) this.#open.set(open.session.id, open);
    this.#touch(open.session.id);
    return open;
  }

  #forget(sessionId: string): void {
    this.#open.delete(sessionId);
    this.#touched.delete(sessionId);
  }

  /** Resolves at the sandbox's next transition made here, or soon: another controller's are not heard. */
  #changeOf(name: string, mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (row: SandboxRow) => {
        if (row.name === name) end();
      };
      const timer = setTimeout(() => end(), Math.min(mostMs, 1_000));
      const end = () => {
        clearTimeout(timer);
        this.#deps.changes.off('change', look);
        resolve();
      };
      this.#deps.changes.on('change', look);
    });
  }

  #touch(sessionId: string): void {
    const now = this.#deps.clock();
    if (now - (this.#touched.get(sessionId) ?? Number.NEGATIVE_INFINITY) < TOUCH_MS) return;
    this.#touched.set(sessionId, now);
    // A note for people and for limits to come: no exec waits for it or fails with it.
    this.#deps.store.touchSession(sessionId).catch(() => this.#touched.delete(sessionId));
  }
}
