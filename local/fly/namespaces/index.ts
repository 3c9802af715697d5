import { chmod, mkdir, readFile, realpath } from 'node:fs/promises';
import { type Engine, EngineError, type MachineSpec, type RunningMachine } from '../engine.ts';
import { openHierarchies, removeHierarchies } from './hierarchies.ts';
import { type Mode, probeHost } from './host.ts';
import { describeHost } from './report.ts';
import { type MachineParts, startMachine } from './start.ts';
import { StateFolder } from './state-folder.ts';
import { parseSubids, UidRanges } from './uid-ranges.ts';

export interface NamespacesImage {
  /** Becomes `/opt/agent`, read-only. */
  dir: string;
  /** Absolute path inside the machine, and arguments. Node is `/opt/node/bin/node`. */
  entrypoint: string[];
}

export interface NamespacesEngineOptions {
  /** Belongs to this engine alone: what it finds there of a former run is removed. */
  stateDir: string;
  /**
   * Bound read-only to `/run/mobvibe`, out of reach of user code. Sockets in it must be connectable by all (0666): to the
   * host, a machine's root is somebody else. Who may reach the folder on the host is decided by its parents.
   */
  gatewayDir?: string;
  /** By reference, as `config.image` names them. */
  images: Record<string, NamespacesImage>;
  /** The Node program that machines get as `/opt/node/bin/node`. */
  nodeBinary: string;
  /** Console lines of machines, and what the engine notices. Never holds a machine's environment. */
  log: (message: string, fields?: Record<string, unknown>) => void;
  /** In `[0, 1)`. Default `Math.random`. */
  random?: () => number;
}

/**
 * Runs machines as real processes in namespaces of their own, with util-linux alone. Throws `unsupported_host` where the
 * host can't.
 */
export async function createNamespacesEngine(options: NamespacesEngineOptions): Promise<Engine> {
  const host = await probeHost();
  const random = options.random ?? Math.random;
  const folder = await StateFolder.open(options.stateDir, host);
  const hierarchies = host.mode === 'root' ? await openHierarchies(folder.path) : [];
  const parts: MachineParts = {
    ...{ host, folder, hierarchies, random, log: options.log },
    node: await folder.node(options.nodeBinary),
    gateway: options.gatewayDir && (await openGateway(options.gatewayDir, host.mode)),
    ranges: new UidRanges(parseSubids(await readFile('/etc/subuid', 'utf8').catch(() => '')), random),
  };

  /** By machine id, from the first step of their start to their end. */
  const machines = new Map<string, Promise<RunningMachine>>();
  let closed = false;

  async function boot(spec: MachineSpec, image: NamespacesImage): Promise<RunningMachine> {
    const { dir } = await folder.image(image.dir);
    const machine = await startMachine(parts, spec, {
      dir,
      command: spec.exec ?? [...image.entrypoint, ...(spec.cmd ?? [])],
    });
    void machine.exited.then(() => machines.delete(spec.id));
    return machine;
  }

  return {
    name: 'namespaces',
    serves: false,
    writesFiles: false,
    report: () => describeHost(host, hierarchies),

    async resolveImage(ref) {
      const image = options.images[ref];
      if (!image) return { error: `no image "${ref}"; there are: ${Object.keys(options.images).join(', ')}` };
      return folder.image(image.dir).then(
        ({ digest }) => ({ digest }),
        (error: Error) => ({ error: `the image "${ref}" can't be read: ${error.message}` }),
      );
    },

    async start(spec) {
      checkId(spec.id);
      const image = options.images[spec.image];
      if (!image) throw new EngineError('image_not_found', `There is no image "${spec.image}"`);
      if (closed) throw new EngineError('boot_failed', 'The engine is closed');
      if (machines.has(spec.id)) throw new EngineError('boot_failed', `The machine ${spec.id} runs already`);
      const booting = boot(spec, image);
      machines.set(spec.id, booting);
      booting.catch(() => machines.delete(spec.id));
      return booting;
    },

    async discard(machineId) {
      checkId(machineId);
      if (machines.has(machineId)) throw new Error(`The machine ${machineId} runs; it can't be discarded`);
      await folder.removeMachine(machineId);
    },

    async close() {
      closed = true;
      await Promise.allSettled([...machines.values()].map(kill));
      await removeHierarchies(hierarchies);
    },
  };
}

async function kill(booting: Promise<RunningMachine>): Promise<void> {
  const machine = await booting;
  await machine.signal('SIGKILL').catch(() => undefined); // It has ended by itself.
  await machine.exited;
}

/** Ids become names of folders, cgroups and hosts. */
function checkId(id: string): void {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(id)) {
    throw new RangeError(`id: "${id}" is no machine id (letters, digits and hyphens)`);
  }
}

/** A machine's root must be able to pass through the folder; for real root's machines that takes the bit for others. */
async function openGateway(dir: string, mode: Mode): Promise<string> {
  await mkdir(dir, { recursive: true });
  if (mode === 'root') await chmod(dir, 0o711);
  return realpath(dir);
}
