import { createInterface } from 'node:readline';
import { PassThrough, type Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import {
  EngineError,
  type MachineExit,
  type MachineFile,
  type MachineSpec,
  type RunningMachine,
} from '../engine.ts';
import { signalName, signalNumberOf } from '../rules/signals.ts';
import { Checks } from './checks.ts';
import { type DockerClient, reasonOf, statusOf } from './client.ts';
import { containerOptions } from './container.ts';
import { execInContainer } from './exec.ts';
import type { Images } from './images.ts';
import type { Networks } from './networks.ts';
import type { Ownership } from './ownership.ts';
import { removeContainer } from './removal.ts';

const LOOK_AGAIN_MS = 500;

/** What all machines of an engine share. */
export interface MachineParts {
  docker: DockerClient;
  ownership: Ownership;
  images: Images;
  networks: Networks;
  random: () => number;
  log: (message: string, fields?: Record<string, unknown>) => void;
}

/** Boots a machine in a new container. Leaves no container behind when it fails. */
export async function startMachine(parts: MachineParts, spec: MachineSpec): Promise<RunningMachine> {
  const { docker, images, networks, ownership } = parts;
  try {
    const imageId = await images.obtain(spec.image, spec.digest);
    const [first, ...others] = await networks.join(spec);
    const options = containerOptions(spec, imageId, first!, ownership, docker.info);
    const { id } = await docker.calls.createContainer(options);
    try {
      for (const { network, aliases: Aliases } of others) {
        await docker.calls.getNetwork(network).connect({ Container: id, EndpointConfig: { Aliases } });
      }
      return await bootContainer(parts, spec, docker.streams.getContainer(id), first!.network);
    } catch (error) {
      networks.endFlycast(spec.id);
      await removeContainer(docker.calls, id);
      throw error;
    }
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw new EngineError('boot_failed', `The machine ${spec.id} did not boot: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

async function bootContainer(
  parts: MachineParts,
  spec: MachineSpec,
  container: Docker.Container,
  network: string,
): Promise<RunningMachine> {
  const own = parts.docker.calls.getContainer(container.id);
  await parts.networks.serveFlycast(spec, spec.network.flycast, container.id);
  if (spec.files.length > 0) await own.putArchive(await archiveOf(spec.files), { path: '/' });
  await readConsole(parts, spec.id, container);
  await own.start();
  const { NetworkSettings } = await own.inspect();
  const address = spec.network.deniesEgress ? undefined : NetworkSettings.Networks[network]?.IPAddress;
  return runningMachine(parts, spec, container, own, address || undefined);
}

function runningMachine(
  { docker, networks, random, log }: MachineParts,
  spec: MachineSpec,
  container: Docker.Container,
  own: Docker.Container,
  address: string | undefined,
): RunningMachine {
  const { id } = spec;
  const checks = new Checks(address, spec.checks);
  const asRunning = async (call: Promise<unknown>) => {
    await call.catch((cause) => {
      if (statusOf(cause) !== 404 && statusOf(cause) !== 409) throw cause;
      throw new EngineError('not_running', `The machine ${id}: ${reasonOf(cause)}`, { cause });
    });
  };
  return {
    address,
    exited: untilExited(container, own).then(async (exit) => {
      checks.end();
      networks.endFlycast(id);
      await removeContainer(docker.calls, container.id).catch((error) =>
        log(`The container of machine ${id} could not be removed: ${error}`, { machine: id }),
      );
      return exit;
    }),
    signal: (signal) => asRunning(own.kill({ signal })),
    exec(request) {
      const mark = Math.floor(random() * Number.MAX_SAFE_INTEGER).toString(36);
      return execInContainer(container, { ...request, mark });
    },
    checks: () => checks.states(),
    serveFlycast: (callers) => networks.serveFlycast(spec, callers, container.id),
    suspend: () => asRunning(own.pause()),
    resume: () => asRunning(own.unpause()),
  };
}

/** Looks again for as long as Docker cannot be asked: only Docker knows whether the machine still runs. */
async function untilExited(container: Docker.Container, own: Docker.Container): Promise<MachineExit> {
  for (;;) {
    try {
      await container.wait();
      const { ExitCode, OOMKilled } = (await own.inspect()).State;
      return { exit_code: ExitCode, signal: signalName(signalNumberOf(ExitCode)), oom_killed: OOMKilled };
    } catch (error) {
      // Somebody else removed it, and that kills.
      if (statusOf(error) === 404) return { exit_code: 137, signal: 'SIGKILL', oom_killed: false };
      await sleep(LOOK_AGAIN_MS, undefined, { ref: false });
    }
  }
}

/** Hands what the machine writes to the log, line by line. */
async function readConsole(
  { log }: MachineParts,
  machine: string,
  container: Docker.Container,
): Promise<void> {
  const output = await container.attach({ stream: true, stdout: true, stderr: true });
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  container.modem.demuxStream(output, stdout, stderr);
  output.on('error', () => undefined); // The container's end tells.
  output.once('close', () => {
    stdout.end();
    stderr.end();
  });
  const lines = (input: Readable, stream: string) =>
    createInterface({ input }).on('line', (line) => log(line, { machine, stream }));
  lines(stdout, 'stdout');
  lines(stderr, 'stderr');
}

async function archiveOf(files: readonly MachineFile[]): Promise<Buffer> {
  const archive = pack();
  for (const { path, content, mode = 0o644 } of files) archive.entry({ name: path.slice(1), mode }, content);
  archive.finalize();
  return buffer(archive);
}
