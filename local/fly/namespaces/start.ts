import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, constants } from 'node:os';
import { join } from 'node:path';
import { EngineError, type MachineSpec, type RunningMachine } from '../engine.ts';
import { MachineCgroups } from './cgroups.ts';
import { runInside, stopOrContinue } from './enter.ts';
import { type Hierarchy, limitedBy, PIDS_MAX } from './hierarchies.ts';
import type { Host } from './host.ts';
import { agentUser, launchCommand, type ProcessLimits } from './launch.ts';
import { MachineProcess } from './machine.ts';
import { fstab, INSIDE, mountPoints } from './root-fs.ts';
import type { StateFolder } from './state-folder.ts';
import type { UidRanges } from './uid-ranges.ts';

/** What all machines of an engine share. */
export interface MachineParts {
  host: Host;
  folder: StateFolder;
  hierarchies: Hierarchy[];
  node: string;
  gateway: string | undefined;
  ranges: UidRanges;
  random: () => number;
  log: (message: string, fields?: Record<string, unknown>) => void;
}

/** What runs in a machine: the folder that becomes `/opt/agent`, and its program. */
interface Payload {
  dir: string;
  command: string[];
}

/** RLIMIT_DATA counts what Node reserves before it runs anything. */
const NODE_BASE_MB = 640;

/** Boots a machine with fresh folders. Leaves nothing behind but its folder when it fails. */
export async function startMachine(
  parts: MachineParts,
  spec: MachineSpec,
  payload: Payload,
): Promise<RunningMachine> {
  const firstId = parts.host.mode === 'root' ? parts.ranges.take() : 0;
  const cgroups = new MachineCgroups(parts.hierarchies, spec.id);
  const env = machineEnv(parts, spec);
  const release = async () => {
    await cgroups.remove().catch((error: Error) => parts.log(error.message, { machine: spec.id }));
    parts.ranges.free(firstId);
  };
  try {
    const command = await prepare(parts, spec, payload, cgroups, firstId);
    const console = (stream: string, line: string) => parts.log(line, { machine: spec.id, stream });
    const booted = await MachineProcess.boot({ command, env, firstId, console });
    return runningMachine(parts, spec.id, booted, cgroups, env, release);
  } catch (error) {
    await release();
    if (error instanceof EngineError) throw error;
    const reason = (error as Error).message;
    throw new EngineError('boot_failed', `The machine ${spec.id} did not boot: ${reason}`, { cause: error });
  }
}

/** Makes folders, cgroups and mount table; gives the command line that boots. */
async function prepare(
  parts: MachineParts,
  spec: MachineSpec,
  payload: Payload,
  cgroups: MachineCgroups,
  firstId: number,
): Promise<string[]> {
  const { host, gateway } = parts;
  const severalUsers = host.mode !== 'single';
  const folder = await parts.folder.makeMachine(spec.id, host.mode === 'root' ? firstId : undefined);
  const { memory_mb: memoryMb, cpus } = spec.guest;
  await cgroups.create({ memoryMb, cpus, pids: PIDS_MAX }, firstId);
  const root = join(folder, 'root');
  const table = fstab(
    {
      ...{ root, gateway, firstId, severalUsers },
      disk: folder,
      agent: payload.dir,
      node: parts.node,
      cgroups: cgroups.views,
    },
    mountPoints(readFileSync('/proc/self/mountinfo', 'utf8')),
  );
  await writeFile(join(folder, 'fstab'), table);
  return launchCommand({
    ...{ host, root, firstId },
    joinFiles: cgroups.joinFiles,
    skeleton: parts.folder.skeleton,
    fstab: join(folder, 'fstab'),
    hostname: spec.id,
    gatewayLink: gateway && severalUsers ? INSIDE.gatewayBehindRoot : '',
    limits: processLimits(parts, spec.guest),
    command: payload.command,
  });
}

function runningMachine(
  parts: MachineParts,
  id: string,
  booted: MachineProcess,
  cgroups: MachineCgroups,
  env: Record<string, string>,
  release: () => Promise<void>,
): RunningMachine {
  const entrance = { host: parts.host, init: booted.init, joinFiles: cgroups.joinFiles, env };
  let suspended = false;
  let turn: Promise<void> = Promise.resolve();
  const mustRun = () => {
    if (!booted.running) throw new EngineError('not_running', `The machine ${id} has ended`);
  };
  const standStill = async (still: boolean) => {
    mustRun();
    if (cgroups.canFreeze) await cgroups.freeze(still);
    else await stopOrContinue(entrance, still ? 'STOP' : 'CONT');
    suspended = still;
  };
  // A resume may come while a suspend is under way; the last one asked for must be the last one done.
  const inTurn = (still: boolean) => {
    const done = turn.then(() => standStill(still));
    turn = done.catch(() => undefined);
    return done;
  };
  return {
    exited: booted.exited.then(async (exit) => {
      const oom_killed = exit.signal === 'SIGKILL' && cgroups.oomKills() > 0;
      await release();
      return { ...exit, oom_killed };
    }),
    async signal(name) {
      if (!(name in constants.signals)) throw new RangeError(`signal: "${name}" is not the name of a signal`);
      mustRun();
      await booted.signal(name as NodeJS.Signals);
      // `unshare` is frozen with its children, and has to see them end.
      if (name === 'SIGKILL' && suspended && cgroups.canFreeze) await cgroups.freeze(false);
    },
    async exec(request) {
      mustRun();
      if (suspended) throw new EngineError('not_running', `The machine ${id} is suspended`);
      const mark = Math.floor(parts.random() * Number.MAX_SAFE_INTEGER).toString(36);
      return runInside(entrance, { ...request, mark });
    },
    suspend: () => inTurn(true),
    resume: () => inTurn(false),
  };
}

/** The program's environment: what a machine is told by this engine, and over it what the caller gives. */
function machineEnv({ host, hierarchies }: MachineParts, spec: MachineSpec): Record<string, string> {
  const heapMb = Math.floor(spec.guest.memory_mb * 0.75);
  return {
    PATH: INSIDE.path,
    HOME: '/root',
    // Where a cgroup limits memory, Node sees the limit and keeps below it by itself.
    ...(limitedBy(hierarchies).has('memory') ? {} : { NODE_OPTIONS: `--max-old-space-size=${heapMb}` }),
    MOBVIBE_AGENT_USER: agentUser(host.mode),
    MOBVIBE_AGENT_STATE_DIR: INSIDE.agentState,
    ...spec.env,
  };
}

/** What processes carry themselves, mostly in place of the limits that no cgroup sets. */
function processLimits({ hierarchies, random }: MachineParts, guest: MachineSpec['guest']): ProcessLimits {
  const limited = limitedBy(hierarchies);
  return {
    ...(limited.has('cpu') ? {} : { cpuList: cpuList(guest.cpus, random) }),
    ...(limited.has('memory') ? {} : { dataMb: guest.memory_mb + NODE_BASE_MB }),
    // Also where a cgroup does it: from this the agent knows how many it may leave to the user.
    pids: PIDS_MAX,
  };
}

/** As many CPUs as the guest has, from a random one on; `undefined` when it may use all. */
function cpuList(cpus: number, random: () => number): string | undefined {
  const all = availableParallelism();
  if (cpus >= all) return undefined;
  const first = Math.floor(random() * all);
  return Array.from({ length: cpus }, (_, i) => (first + i) % all).join(',');
}
