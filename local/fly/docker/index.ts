import { spawn } from 'node:child_process';
import { mkdir, realpath } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Engine, EngineError, type MachineSpec, type RunningMachine } from '../engine.ts';
import { connectDocker } from './client.ts';
import { openHostPorts } from './host-ports.ts';
import { Images } from './images.ts';
import { type MachineParts, startMachine } from './machine.ts';
import { Networks } from './networks.ts';
import { OWNER, ownershipOf, RUN } from './ownership.ts';
import { removeLabelled } from './removal.ts';
import { describeDocker } from './report.ts';

export interface DockerEngineOptions {
  /** Names whose containers these are. Nothing is kept in it; one engine at a time. */
  stateDir: string;
  /** Docker's Unix socket. Default `/var/run/docker.sock`. */
  socketPath?: string;
  /** Ports of this host's loopback that machines with a way out reach as `host.docker.internal`. Default: none. */
  hostPorts?: readonly number[];
  /** Lines that machines write, and what the engine notices. Never holds a machine's environment. */
  log: (message: string, fields?: Record<string, unknown>) => void;
  /** In `[0, 1)`. Default `Math.random`. */
  random?: () => number;
}

export const DEFAULT_SOCKET = '/var/run/docker.sock';
const TETHER = fileURLToPath(new URL('./tether.ts', import.meta.url));
/** Their removal below ends what has not ended then. */
const KILL_TIMEOUT_MS = 10_000;

/**
 * Runs machines as Docker containers. Removes what an earlier engine on this folder left in Docker. Throws `unsupported_host` where
 * Docker can't be used.
 */
export async function createDockerEngine(options: DockerEngineOptions): Promise<Engine> {
  const { log, socketPath = DEFAULT_SOCKET, hostPorts = [], random = Math.random } = options;
  const docker = await connectDocker(socketPath);
  await mkdir(options.stateDir, { recursive: true });
  const run = Math.floor(random() * 2 ** 48).toString(16);
  const ownership = ownershipOf(await realpath(options.stateDir), run);
  const left = await removeLabelled(docker.calls, OWNER, ownership.owner);
  if (left > 0) log(`Removed ${left} containers and networks that an earlier local Fly left in Docker`);
  const opened = await openHostPorts(docker.calls, hostPorts, log);
  const tether = tie(socketPath, run);

  const closing = new AbortController();
  const parts: MachineParts = {
    ...{ docker, ownership, random, log },
    images: new Images(docker, closing.signal),
    networks: new Networks(docker, ownership, random),
  };
  /** By machine id, from the first step of their start to their end. */
  const machines = new Map<string, Promise<RunningMachine>>();

  async function boot(spec: MachineSpec): Promise<RunningMachine> {
    const machine = await startMachine(parts, spec);
    void machine.exited.then(() => machines.delete(spec.id));
    return machine;
  }

  return {
    name: 'docker',
    serves: true,
    writesFiles: true,
    report: () => describeDocker(docker.info, socketPath),
    resolveImage: (image) => parts.images.resolve(image),

    async start(spec) {
      if (closing.signal.aborted) throw new EngineError('boot_failed', 'The engine is closed');
      if (machines.has(spec.id)) throw new EngineError('boot_failed', `The machine ${spec.id} runs already`);
      const booting = boot(spec);
      machines.set(spec.id, booting);
      booting.catch(() => machines.delete(spec.id));
      return booting;
    },

    async discard(machineId) {
      if (machines.has(machineId)) throw new Error(`The machine ${machineId} runs; it can't be discarded`);
      await parts.networks.leave(machineId);
    },

    async close() {
      closing.abort();
      opened.close();
      const killed = Promise.allSettled([...machines.values()].map(kill));
      await Promise.race([killed, sleep(KILL_TIMEOUT_MS, undefined, { ref: false })]);
      await removeLabelled(docker.calls, RUN, run);
      await tether.cut();
    },
  };
}

async function kill(booting: Promise<RunningMachine>): Promise<void> {
  const machine = await booting;
  await machine.signal('SIGKILL').catch(() => undefined); // It has ended by itself.
  await machine.exited;
}

/** A process in a session of its own that cleans up after us when we are killed (`tether.ts`). */
function tie(socketPath: string, run: string): { cut(): Promise<void> } {
  const child = spawn(process.execPath, [TETHER, socketPath, run], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
    env: {},
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve()); // Without it, our next start does its work.
  });
  child.stdin.on('error', () => undefined);
  child.unref();
  (child.stdin as unknown as { unref(): void }).unref();
  return {
    async cut() {
      child.ref();
      child.kill('SIGKILL');
      await ended;
    },
  };
}
