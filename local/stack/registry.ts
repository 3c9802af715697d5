import { spawn, spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const READY_TIMEOUT_MS = 15_000;
const LOOK_EVERY_MS = 100;

export interface Registry {
  host: string;
  stop(): Promise<void>;
}

/** Debian's `docker-registry` on a port of loopback that is free; `undefined` where it isn't installed. */
export async function startRegistry(dir: string, port: number): Promise<Registry | undefined> {
  if (spawnSync('docker-registry', ['--version']).error) return undefined;
  const host = `127.0.0.1:${port}`;
  const config = {
    version: '0.1',
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: join(dir, 'data') }, delete: { enabled: true } },
    http: { addr: host },
  };
  await mkdir(dir, { recursive: true });
  // JSON is YAML.
  await writeFile(join(dir, 'config.yml'), JSON.stringify(config));
  // It ends with us, however we end (util-linux).
  const command = ['--pdeathsig', 'SIGTERM', 'docker-registry', 'serve', join(dir, 'config.yml')];
  const registry = spawn('setpriv', command, { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => {
    registry.once('exit', () => resolve()).once('error', () => resolve());
  });
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  while (!(await answers(host))) {
    if (registry.exitCode !== null || deadline.aborted) {
      registry.kill('SIGKILL');
      throw new Error(`docker-registry did not answer on ${host} (its settings: ${join(dir, 'config.yml')})`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  return {
    host,
    async stop() {
      registry.kill();
      await ended;
    },
  };
}

const answers = (host: string) =>
  fetch(`http://${host}/v2/`, { signal: AbortSignal.timeout(1_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
