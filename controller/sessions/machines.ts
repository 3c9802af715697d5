import { type FlyClient, FlyError, type Machine } from '../../fly/index.ts';
import { agentToken } from '../agents/token.ts';
import type { AgentEnv } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import type { SandboxRow, SessionSettings } from '../store/rows.ts';
import { METADATA, machineMetadata, parseSandboxName } from './names.ts';

/** What the lifecycle wants to know of a machine. */
export interface MachineView {
  id: string;
  name: string | undefined;
  state: string;
  region: string | null;
  /** Unix milliseconds; undefined where Fly did not say. */
  createdAt: number | undefined;
  /** Undefined where Fly did not say: a summary, or a host in trouble. */
  metadata: Record<string, string> | undefined;
  /** How its program ended the last time, where Fly tells. */
  exit?: { code: number | undefined; oomKilled: boolean } | undefined;
}

export type Machines = ReturnType<typeof createMachines>;

type MachineConfigSource = Pick<
  Config,
  | 'cellApps'
  | 'stack'
  | 'agentSecret'
  | 'sandboxImage'
  | 'agentDialUrl'
  | 'egressProxyUrl'
  | 'agentOrphanTimeoutMs'
>;

/** Time that pid 1 of a machine has after SIGTERM; its files were saved before. */
const STOP_GRACE = '5s';

/** Our machines at Fly: what they look like, and the few calls that the lifecycle makes. Rejects with `FlyError`. */
export function createMachines(fly: FlyClient, config: MachineConfigSource) {
  const { cellApps, stack } = config;

  /**
   * What the call answers, or `none` where the app is closed to us and we start nothing in it any more: a cell that was taken away. Fly says
   * that there is no such app, or that our token is not good for it, which says the same for a token of apps. Of a cell that we name
   * ourselves that says nothing: the settings may be wrong, as they may be when Fly does not let us see any of our cells.
   */
  async function inCell<T>(app: string, call: Promise<T>, none: T): Promise<T> {
    try {
      return await call;
    } catch (error) {
      const closed = error instanceof FlyError && (error.reason === 'app_not_found' || error.kind === 'auth');
      if (!closed || cellApps.includes(app)) throw error;
      await fly.getApp(cellApps[0]!);
      return none;
    }
  }

  return {
    /** The one machine of this sandbox: made now, or found where an earlier call made it. */
    async create(
      sandbox: Pick<SandboxRow, 'name' | 'session_id' | 'app' | 'fence'>,
      settings: SessionSettings,
      options: { timeoutMs: number; signal: AbortSignal },
    ): Promise<MachineView> {
      return view(
        await fly.createMachine(
          sandbox.app,
          {
            name: sandbox.name,
            region: settings.region,
            config: {
              image: config.sandboxImage,
              env: { ...agentEnv(config, sandbox) },
              guest: { cpu_kind: settings.cpu_kind, cpus: settings.cpus, memory_mb: settings.memory_mb },
              // A machine whose agent has ended is of no use to anyone: gone, not restarted, not kept.
              restart: { policy: 'no' },
              auto_destroy: true,
              stop_config: { signal: 'SIGTERM', timeout: STOP_GRACE },
              metadata: machineMetadata(stack, sandbox),
            },
          },
          options,
        ),
      );
    },

    /** The live machine with this name, if the list has one; not finding it is no proof that there is none. */
    async find(app: string, name: string): Promise<MachineView | undefined> {
      const found = await inCell(app, fly.listMachines(app, { metadata: { [METADATA.sandbox]: name } }), []);
      return found.map(view).find((machine) => machine.name === name && machine.state !== 'destroyed');
    },

    /** Null: Fly says that there is no such machine (any more). */
    async get(app: string, id: string): Promise<MachineView | null> {
      try {
        return await inCell(app, fly.getMachine(app, id).then(view), null);
      } catch (error) {
        const gone =
          error instanceof FlyError && error.kind === 'not_found' && error.reason !== 'app_not_found';
        if (gone) return null;
        throw error;
      }
    },

    /** Machines with our stack's metadata. */
    async list(app: string, signal: AbortSignal): Promise<MachineView[]> {
      const listed = fly.listMachines(app, { metadata: { [METADATA.stack]: stack }, signal });
      return (await inCell(app, listed, [])).map(view);
    },

    /** Asks for the machine's end and waits for it for up to `waitMs`. Whether it is gone, only `get` says. */
    async destroy(
      app: string,
      id: string,
      { waitMs, signal }: { waitMs: number; signal: AbortSignal },
    ): Promise<void> {
      await fly.destroyMachine(app, id, { force: true, signal });
      await fly.waitForState(app, id, 'destroyed', { timeoutMs: waitMs, signal }).catch((error: unknown) => {
        if (!(error instanceof FlyError)) throw error;
      });
    },

    /** Provably ours: the stack's metadata, a name of our form, and both telling of the same sandbox. */
    isOurs(machine: MachineView): boolean {
      return (
        machine.metadata?.[METADATA.stack] === stack &&
        machine.name !== undefined &&
        parseSandboxName(machine.name) !== undefined &&
        machine.metadata[METADATA.sandbox] === machine.name
      );
    },

    /** Resolves when Fly answers about any of our cells. */
    async ping(): Promise<void> {
      await Promise.any(cellApps.map((app) => fly.getApp(app)));
    },
  };
}

function agentEnv(
  config: MachineConfigSource,
  { name, fence }: Pick<SandboxRow, 'name' | 'fence'>,
): AgentEnv {
  return {
    MOBVIBE_AGENT_DIAL_URL: config.agentDialUrl,
    MOBVIBE_AGENT_TOKEN: agentToken(config.agentSecret, name),
    MOBVIBE_SANDBOX: name,
    MOBVIBE_FENCE: String(fence),
    MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS: String(config.agentOrphanTimeoutMs),
    ...(config.egressProxyUrl === undefined ? {} : { MOBVIBE_EGRESS_PROXY_URL: config.egressProxyUrl }),
  };
}

function view(machine: Machine): MachineView {
  return {
    id: machine.id,
    name: machine.name,
    state: machine.state,
    region: machine.region ?? null,
    createdAt: machine.created_at === undefined ? undefined : Date.parse(machine.created_at),
    // A host in trouble may still tell part of the configuration.
    metadata: machine.config?.metadata ?? machine.incomplete_config?.metadata,
    exit: lastExit(machine),
  };
}

/** Fly lists events with the newest first; an exit code of 0 may be absent. */
function lastExit({ events = [] }: Machine): MachineView['exit'] {
  const request = events.find(({ type }) => type === 'exit')?.request;
  const exit = request?.exit_event ?? request?.MonitorEvent?.exit_event;
  return exit && { code: exit.exit_code, oomKilled: exit.oom_killed === true };
}

/** Fly's positive word that the machine does not exist. */
export function isGone(machine: MachineView | null): boolean {
  return machine === null || machine.state === 'destroyed';
}

/** Fly's positive word that nothing runs in the machine and nothing will, as we never start one again. */
export function hasEnded(machine: MachineView | null): boolean {
  return isGone(machine) || ['stopped', 'failed', 'launch_failed'].includes(machine!.state);
}
