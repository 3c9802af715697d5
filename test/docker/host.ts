import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, type TestContext, test } from 'vitest';
import { connectDocker } from '../../local/fly/docker/client.ts';
import { createDockerEngine, DEFAULT_SOCKET } from '../../local/fly/docker/index.ts';
import { OWNER, ownershipOf } from '../../local/fly/docker/ownership.ts';
import type { Engine, MachineNetwork, MachineSpec, RunningMachine } from '../../local/fly/engine.ts';
import { buildTestImage } from './image.ts';

export const docker = new Docker({ socketPath: DEFAULT_SOCKET });

const missing = await whyNot();

async function whyNot(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'the test image is made of the programs of a Linux host';
  return connectDocker(DEFAULT_SOCKET).then(
    () => undefined,
    (error: Error) => error.message,
  );
}

/** A test with real containers: skipped, with the reason, where no Docker answers. */
export function dockerTest(name: string, run: (context: TestContext) => Promise<void>): void {
  test(name, async (context) => {
    if (missing) context.skip(missing);
    await run(context);
  });
}

/** Wants 600 MB and ends in peace where nothing keeps it from that. */
export const GREEDY = [
  ...['/bin/node', '-e'],
  'const all = []; for (let i = 0; i < 60; i++) all.push(Buffer.alloc(10 << 20, 1)); setTimeout(() => process.exit(0), 1000)',
];

/** An image of its own for each test file, removed at the end. */
export function useTestImage(): string {
  const tag = `mobvibe-test-${randomBytes(4).toString('hex')}:1`;
  beforeAll(async () => {
    if (!missing) await buildTestImage(docker, tag);
  });
  afterAll(async () => {
    if (!missing) await docker.getImage(tag).remove({ force: true });
  });
  return tag;
}

export interface Stage {
  engine: Engine;
  log: string[];
  /** Boots a machine of the test image with a new id, where nothing else is wanted. */
  boot(wanted?: Wanted): Promise<Booted>;
}

export type Wanted = Partial<Omit<MachineSpec, 'guest' | 'network' | 'services'>> & {
  guest?: Partial<MachineSpec['guest']>;
  network?: Partial<MachineNetwork>;
};

export interface Booted extends RunningMachine {
  readonly id: string;
  /** Output of a shell command that must succeed. */
  sh(script: string): Promise<string>;
  /** The word that a server says to a TCP connection from the machine; else Node's word for the failure, `timeout` or `nothing`. */
  call(host: string, port: number, patienceMs?: number): Promise<string>;
}

/** One engine for the tests of a file, closed at the end. */
export function useEngine(image: string): Stage {
  let folder: string;
  const log: string[] = [];
  const stage = { log } as unknown as Stage;
  beforeAll(async () => {
    if (missing) return;
    folder = await mkdtemp(join(tmpdir(), 'mobvibe-docker-'));
    stage.engine = await createDockerEngine({ stateDir: folder, log: (line) => log.push(line) });
  });
  afterAll(async () => {
    if (missing) return;
    await stage.engine.close();
    await rm(folder, { recursive: true });
  });
  stage.boot = async (wanted = {}) => {
    const digest = wanted.digest ?? (await resolve(wanted.image ?? image));
    const spec = specOf({ image, ...wanted, digest });
    return booted(await stage.engine.start(spec), spec.id);
  };
  return stage;

  async function resolve(reference: string): Promise<string> {
    const resolved = await stage.engine.resolveImage(reference);
    if ('error' in resolved) throw new Error(resolved.error);
    return resolved.digest;
  }

  function booted(machine: RunningMachine, id: string): Booted {
    const sh = async (script: string) => {
      const result = await machine.exec({ command: ['/bin/sh', '-c', script], timeoutMs: 30_000 });
      if (result.exit_code !== 0) throw new Error(`${script}: ${JSON.stringify(result)}`);
      return result.stdout.trim();
    };
    const call = (host: string, port: number, patienceMs = 20_000) =>
      sh(`node -e '${CALL}' '${host}' ${port} ${patienceMs}`);
    return { ...machine, id, sh, call };
  }
}

const CALL = `const [, host, port, timeout] = process.argv;
const socket = require("net").connect({ host, port, timeout: Number(timeout) });
const end = (word) => { console.log(String(word)); process.exit(); };
socket.on("data", end).on("end", () => end("nothing"));
socket.on("timeout", () => end("timeout")).on("error", (error) => end(error.code));`;

export function newId(): string {
  return randomBytes(7).toString('hex');
}

export function specOf(wanted: Wanted & { image: string; digest: string }): MachineSpec {
  return {
    ...{ id: newId(), app: 'app', name: 'machine', env: {}, files: [], services: [], checks: {} },
    ...wanted,
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256, ...wanted.guest },
    network: { name: 'default', deniesIngress: false, deniesEgress: false, flycast: [], ...wanted.network },
  };
}

/** Names of the containers and networks that belong to a state folder. */
export async function ownedBy(stateDir: string): Promise<string[]> {
  const filters = { label: [`${OWNER}=${ownershipOf(stateDir, '').owner}`] };
  const containers = await docker.listContainers({ all: true, filters });
  const networks = await docker.listNetworks({ filters });
  return [...containers.flatMap(({ Names }) => Names), ...networks.map(({ Name }) => Name)];
}
