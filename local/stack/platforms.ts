/** `npm run platforms`: Fly.io, Supabase and a registry on this computer, bare, for `pulumi up --stack local`, until Ctrl-C. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Child, startChild } from './child.ts';
import { assertPortIsFree, freePort } from './port.ts';
import { type Registry, startRegistry } from './registry.ts';
import { localStateDir } from './state-dir.ts';

/** As in `Pulumi.local.yaml`: Fly's own for its API inside, those that the Supabase CLI takes for a local project, and the registry's. */
const PORTS = [4280, 54_321, 54_322, 5055];

const HELP = `Plays Fly.io and Supabase on this computer, with nothing of ours on them yet: that is for "pulumi up --stack local".
Machines are Docker containers; images come from a registry.

  npm run platforms -- [--state-dir DIR] [--engine docker|simulated] [--ports F,S,D,R] [--verbose]

  --state-dir  where everything is kept between starts (default: "platforms" in the folder of the local stack)
  --engine     docker (default), or simulated: nothing runs in a machine then
  --ports      of Fly, Supabase, its database and the registry on 127.0.0.1 (default ${PORTS}; 0 takes a free one)
  --verbose    print every part's log, on stderr
`;

interface FlyReady {
  ready: true;
  lacks: string[];
}
interface SupabaseReady {
  ready: true;
  secretKeyFile: string;
  dbUrlFile: string;
}

interface Settings {
  /** Files with one secret each. */
  token: string;
  serviceRoleKey: string;
  dbUrl: string;
  /** What is to be set otherwise than in `Pulumi.local.yaml`. */
  others: Record<string, string>;
}

const { stateDir, engine, ports, verbose } = readOptions();
let stopping = false;
const started: (Child<{ ready: true }> | Registry)[] = [];
const settings = await start().catch(async (error: Error) => {
  process.stderr.write(`${error.message}\n`);
  await stop();
  process.exit(1);
});

process.stdout.write(`
Fly.io and Supabase are played on this computer: no account, no bill. Everything is kept in ${stateDir}

In another terminal of this folder:

  export FLY_API_TOKEN="$(cat ${settings.token})" PULUMI_CONFIG_PASSPHRASE=local
  mkdir -p ${stateDir}/pulumi && pulumi login file://${stateDir}/pulumi
  pulumi stack init local
  pulumi config set --stack local --secret supabaseServiceRoleKey < ${settings.serviceRoleKey}
  pulumi config set --stack local --secret supabaseDbUrl < ${settings.dbUrl}
${Object.entries(settings.others)
  .map(([key, value]) => `  pulumi config set --stack local ${key} ${value}\n`)
  .join('')}  pulumi up --stack local

Ctrl-C stops it, and with it every machine.
`);

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(130);
    void stop().then(() => process.exit(0));
  });
}
for (const part of started) {
  if (!('exited' in part)) continue;
  void part.exited.then(() => {
    if (stopping) return;
    process.stderr.write(`${part.name} ended by itself:\n  ${part.lastLog().join('\n  ')}\n`);
    void stop().then(() => process.exit(1));
  });
}

async function start(): Promise<Settings> {
  const [flyPort, supabasePort, dbPort, registryPort] = (await Promise.all(
    ports.map(async (port) => port || (await freePort())),
  )) as [number, number, number, number];
  for (const port of [flyPort, supabasePort, dbPort]) await assertPortIsFree(port, '--ports');
  await mkdir(stateDir, { recursive: true, mode: 0o711 });
  const token = join(stateDir, 'fly-token');
  await writeFile(token, `local_${randomBytes(24).toString('hex')}\n`, { mode: 0o600, flag: 'wx' }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    },
  );

  await openRegistry(registryPort);
  const supabase = await part<SupabaseReady>('local Supabase', 'local/supabase/main.ts', [
    ...['--state-dir', join(stateDir, 'supabase'), '--bare'],
    ...['--port', String(supabasePort), '--db-port', String(dbPort)],
  ]);
  const fly = await part<FlyReady>(
    'local Fly',
    'local/fly/main.ts',
    [
      ...['--state-dir', join(stateDir, 'fly'), '--engine', engine, '--port', String(flyPort)],
      ...['--host-port', String(flyPort), '--host-port', String(supabasePort)],
    ],
    { FLY_API_TOKEN: (await readFile(token, 'utf8')).trim() },
  );
  for (const lack of fly.ready.lacks) tell(`note: ${lack}`);
  const others = {
    ...(flyPort !== PORTS[0] && endpoints('flyApiUrl', flyPort)),
    ...(supabasePort !== PORTS[1] && endpoints('supabaseUrl', supabasePort)),
    ...(engine === 'simulated' && { smoke: 'false', discardUnsaved: 'true' }),
    ...(registryPort !== PORTS[3] && { registry: `127.0.0.1:${registryPort}` }),
  };
  return { token, serviceRoleKey: supabase.ready.secretKeyFile, dbUrl: supabase.ready.dbUrlFile, others };
}

function endpoints(key: string, port: number): Record<string, string> {
  return { [key]: `http://127.0.0.1:${port}`, [`${key}Inside`]: `http://host.docker.internal:${port}` };
}

/** Another that listens there already does as well. */
async function openRegistry(port: number): Promise<void> {
  const taken = await assertPortIsFree(port, '--ports').catch((error: Error) => error);
  const registry = taken ? undefined : await startRegistry(join(stateDir, 'registry'), port);
  if (registry) started.push(registry);
  else if (taken) tell(`note: images go to what listens on 127.0.0.1:${port} already`);
  else tell(`note: docker-registry is not installed; images need another registry on 127.0.0.1:${port}`);
}

async function part<Ready extends { ready: true }>(
  name: string,
  script: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<Child<Ready>> {
  const child = await startChild<Ready>({
    ...{ name, args, env },
    script: fileURLToPath(new URL(`../../${script}`, import.meta.url)),
    onLog: (line) => void (verbose && process.stderr.write(`[${name}] ${line}\n`)),
  });
  started.push(child);
  return child;
}

async function stop(): Promise<void> {
  stopping = true;
  // The database last.
  for (const one of started.splice(0).reverse()) await one.stop();
}

function tell(sentence: string): void {
  process.stdout.write(`${sentence}\n`);
}

function readOptions(): {
  stateDir: string;
  engine: 'docker' | 'simulated';
  ports: number[];
  verbose: boolean;
} {
  try {
    const { values } = parseArgs({
      options: {
        'state-dir': { type: 'string' },
        engine: { type: 'string', default: 'docker' },
        ports: { type: 'string', default: PORTS.join() },
        verbose: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const { engine } = values;
    if (engine !== 'docker' && engine !== 'simulated') {
      throw new Error(`--engine must be docker or simulated, got ${JSON.stringify(engine)}`);
    }
    if (
      !/^\d+(,\d+){3}$/.test(values.ports) ||
      values.ports.split(',').some((port) => Number(port) > 65_535)
    ) {
      throw new Error(
        `--ports must be four port numbers with commas between, got ${JSON.stringify(values.ports)}`,
      );
    }
    const dir = values['state-dir'] ?? join(localStateDir(process.env, process.getuid?.()), 'platforms');
    const ports = values.ports.split(',').map(Number);
    return { stateDir: resolve(dir), engine, ports, verbose: values.verbose };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}
