import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createClient } from '@supabase/supabase-js';
import { type Child, startChild } from './child.ts';
import { buildLocalImage } from './image.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Name of the Fly app that holds the local sandboxes. */
export const LOCAL_APP = 'mobvibe-local-cell';

export interface StackOptions {
  /** Everything that the stack keeps lies here: the database, stored files, machines, keys. */
  stateDir: string;
  /**
   * Short folder for Unix sockets (their paths may have 107 bytes), bound into the machines.
   * Default `<stateDir>/gateway`.
   */
  gatewayDir?: string;
  /** Port of the controller's API; 0 takes a free one. Default 0. */
  port?: number;
  /** More variables for the controller, e.g. `MOBVIBE_SANDBOX_MAX_AGE_MS`. */
  controllerEnv?: Record<string, string>;
  /** Called with a part's name and each line of its log. */
  onLog?: (part: string, line: string) => void;
  /** Called after each part that has come up. */
  onStep?: (part: string, ms: number) => void;
}

export interface Stack {
  url: string;
  apiKey: string;
  supabase: Child<SupabaseReady>;
  egress: Child<{ ready: true }>;
  fly: Child<FlyReady>;
  controller: Child<ControllerReady>;
  /** What this host's engine lacks, in sentences. */
  engine: { name: string; lacks: string[] };
  flyToken: string;
  /** Starts the controller again after it has ended, with the same settings and port. */
  restartController(): Promise<void>;
  /** The same for local Fly. */
  restartFly(): Promise<void>;
  /** The same for local Supabase. */
  restartSupabase(): Promise<void>;
  /** Sandboxes end with local Fly; files that were saved stay in local Supabase. Whoever asks again waits for the same end. */
  stop(): Promise<void>;
}

interface SupabaseReady {
  ready: true;
  url: string;
  secretKeyFile: string;
}
interface FlyReady {
  ready: true;
  url: string;
  engine: string;
  lacks: string[];
}
interface ControllerReady {
  ready: true;
  url: string;
}

/** Starts local Supabase, local Fly, the way out for machines and the controller, each a process of its own. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { stateDir } = options;
  const gatewayDir = options.gatewayDir ?? join(stateDir, 'gateway');
  await mkdir(stateDir, { recursive: true });
  await mkdir(gatewayDir, { recursive: true });
  // Machines' uids must be able to walk in; the secrets inside have files of mode 0600.
  await chmod(stateDir, 0o711);
  const secrets = await loadSecrets(join(stateDir, 'secrets.json'));
  const started: Child<{ ready: true }>[] = [];

  async function part<Ready extends { ready: true }>(
    name: string,
    script: string,
    args: string[],
    env: Record<string, string> = {},
    knowsTether = true,
  ): Promise<Child<Ready>> {
    const began = performance.now();
    const child = await startChild<Ready>({
      name,
      script: join(ROOT, script),
      args,
      knowsTether,
      env,
      onLog: (line) => options.onLog?.(name, line),
    });
    started.push(child);
    options.onStep?.(name, performance.now() - began);
    return child;
  }

  let stopping: Promise<void> | undefined;
  function stop(): Promise<void> {
    stopping ??= stopAll();
    return stopping;
  }
  async function stopAll(): Promise<void> {
    // The controller first, so that it doesn't watch the others go; the database last.
    for (const child of started.reverse()) await child.stop();
  }

  try {
    const startSupabase = (port: number) =>
      part<SupabaseReady>('local Supabase', 'local/supabase/main.ts', [
        ...['--state-dir', join(stateDir, 'supabase'), '--port', String(port)],
      ]);
    const [image, supabase] = await Promise.all([
      buildLocalImage(join(stateDir, 'images')),
      startSupabase(0),
    ]);
    const storageHost = new URL(supabase.ready.url).host;
    const egress = await part(
      'egress proxy',
      'controller/egress/main.ts',
      [],
      { MOBVIBE_EGRESS_LISTEN_SOCKET: join(gatewayDir, 'egress.sock'), MOBVIBE_EGRESS_ALLOW: storageHost },
      false,
    );
    const startFly = (port: number) =>
      part<FlyReady>(
        'local Fly',
        'local/fly/main.ts',
        [
          ...['--state-dir', join(stateDir, 'fly'), '--port', String(port), '--engine', 'namespaces'],
          ...['--gateway-dir', gatewayDir, '--image', `${image.ref}=${image.dir}`],
        ],
        { FLY_API_TOKEN: secrets.flyToken },
      );
    const fly = await startFly(0);
    await createApp(fly.ready.url, secrets.flyToken);

    const serviceKey = (await readFile(supabase.ready.secretKeyFile, 'utf8')).trim();
    await addApiKey(supabase.ready.url, serviceKey, secrets.apiKey);
    const startController = (port: number) =>
      part<ControllerReady>(
        'controller',
        'controller/main.ts',
        [],
        {
          FLY_API_TOKEN: secrets.flyToken,
          FLY_APP_NAME: LOCAL_APP,
          FLY_FLAPS_BASE_URL: fly.ready.url,
          SUPABASE_URL: supabase.ready.url,
          SUPABASE_SERVICE_ROLE_KEY: serviceKey,
          MOBVIBE_AGENT_SECRET: secrets.agentSecret,
          MOBVIBE_SANDBOX_IMAGE: image.ref,
          MOBVIBE_LISTEN_PORT: String(port),
          MOBVIBE_AGENT_LISTEN_SOCKET: join(gatewayDir, 'controller.sock'),
          MOBVIBE_AGENT_DIAL_URL: 'ws+unix:/run/mobvibe/controller.sock:/v1/agent',
          MOBVIBE_EGRESS_PROXY_URL: 'unix:/run/mobvibe/egress.sock',
          MOBVIBE_EGRESS_PROBE_URL: `unix:${join(gatewayDir, 'egress.sock')}`,
          ...options.controllerEnv,
        },
        false,
      );
    const controller = await startController(options.port ?? 0);

    const stack: Stack = {
      url: controller.ready.url,
      apiKey: secrets.apiKey,
      supabase,
      egress,
      fly,
      controller,
      engine: { name: fly.ready.engine, lacks: fly.ready.lacks },
      flyToken: secrets.flyToken,
      async restartController() {
        stack.controller = await startController(Number(new URL(stack.url).port));
      },
      async restartSupabase() {
        stack.supabase = await startSupabase(Number(new URL(supabase.ready.url).port));
      },
      async restartFly() {
        stack.fly = await startFly(Number(new URL(fly.ready.url).port));
      },
      stop,
    };
    return stack;
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Secrets {
  flyToken: string;
  agentSecret: string;
  apiKey: string;
}

/** Made once, then kept, so that a stack that is started again knows its machines and clients. */
async function loadSecrets(file: string): Promise<Secrets> {
  const stored = await readFile(file, 'utf8').catch(() => undefined);
  if (stored !== undefined) return JSON.parse(stored) as Secrets;
  const secrets: Secrets = {
    flyToken: `local_${randomBytes(24).toString('hex')}`,
    agentSecret: randomBytes(32).toString('hex'),
    apiKey: `mvk_${randomBytes(24).toString('base64url')}`,
  };
  await writeFile(file, JSON.stringify(secrets), { mode: 0o600, flag: 'wx' });
  return secrets;
}

/** What `pulumi up` does for the real Fly: the app exists before the controller starts. */
async function createApp(flyUrl: string, token: string): Promise<void> {
  const response = await fetch(`${flyUrl}/v1/apps`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ app_name: LOCAL_APP, org_slug: 'personal', network: LOCAL_APP }),
    signal: AbortSignal.timeout(10_000),
  });
  // 422 name_taken: the app is there since an earlier start.
  if (!response.ok && response.status !== 422) {
    throw new Error(
      `local Fly did not create the app ${LOCAL_APP}: ${response.status} ${await response.text()}`,
    );
  }
}

async function addApiKey(supabaseUrl: string, serviceKey: string, apiKey: string): Promise<void> {
  const supabase = createClient(supabaseUrl, serviceKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
  const { error } = await supabase.rpc('api_key_add', {
    p_id: 'local',
    p_name: 'the key of this local stack',
    p_sha256: createHash('sha256').update(apiKey).digest('hex'),
  });
  if (error) throw new Error(`the API key could not be stored: ${error.message}`);
}

/** Removes all that a stack has kept. Only when nothing of it runs; a part that was killed may take a moment to be gone. */
export async function removeState(stateDir: string): Promise<void> {
  await rm(stateDir, { recursive: true, force: true, maxRetries: 8, retryDelay: 100 });
}
