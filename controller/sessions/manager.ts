import type { AgentHub } from '../agents/hub.ts';
import type { Config } from '../config.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow, SessionRow } from '../store/rows.ts';
import type { ExecOutcome } from './exec-output.ts';
import type { CallOptions, FollowedExec, SandboxLifecycle, StopCallOptions } from './lifecycle.ts';
import type { OpenSandbox } from './open-sandboxes.ts';
import { checkSessionId, type SandboxRequest, sessionSettings } from './requests.ts';

export interface ManagerDeps {
  store: Store;
  hub: AgentHub;
  lifecycle: SandboxLifecycle;
  config: Pick<Config, 'flyRegion' | 'cpuKind' | 'cpus' | 'memoryMb'>;
}

/** One sandbox at a time: make it, look at it, run a command in it, end it. */
export class SandboxManager {
  readonly #deps: ManagerDeps;

  constructor(deps: ManagerDeps) {
    this.#deps = deps;
  }

  /** The session's sandbox, started where it has none. The same settings again find it; others are a `session_conflict`. */
  async createSandbox(
    request: SandboxRequest,
    options: CallOptions = {},
  ): Promise<SessionRow & { created: boolean }> {
    checkSessionId(request.sessionId);
    const settings = sessionSettings(request, this.#deps.config);
    return this.#deps.lifecycle.openSession({ id: request.sessionId, settings }, options);
  }

  async getSandbox(
    sessionId: string,
  ): Promise<{ session: SessionRow; sandbox: SandboxRow | null; connected: boolean }> {
    checkSessionId(sessionId);
    const [session, sandbox] = await Promise.all([
      this.#deps.store.getSession(sessionId),
      this.#deps.store.findLiveSandbox(sessionId),
    ]);
    return {
      session,
      sandbox,
      connected: sandbox !== null && this.#deps.hub.get(sandbox.name) !== undefined,
    };
  }

  /** Runs a command to its end; the same as `SandboxLifecycle.execInSandbox`. */
  execCommand(
    sessionId: string,
    command: string | string[],
    options: FollowedExec = {},
  ): Promise<ExecOutcome> {
    return this.#deps.lifecycle.execInSandbox(sessionId, command, options);
  }

  /** Saves the session's files, then destroys its machine. */
  async destroySandbox(
    sessionId: string,
    { reason = 'requested', ...options }: StopCallOptions & { reason?: string } = {},
  ): Promise<SessionRow> {
    checkSessionId(sessionId);
    return this.#deps.lifecycle.stopSandbox(sessionId, reason, options);
  }

  /** See `OpenSandboxes.link`. */
  link(sessionId: string): Promise<OpenSandbox> {
    return this.#deps.lifecycle.open.link(sessionId);
  }

  /** See `OpenSandboxes.linkAny`. */
  linkAny(sessionId: string): Promise<OpenSandbox> {
    return this.#deps.lifecycle.open.linkAny(sessionId);
  }
}
