import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import type { ChildOptions } from '../../local/stack/child.ts';
import { buildLocalImage } from '../../local/stack/image.ts';
import { freePort } from '../../local/stack/port.ts';
import { createFlyApp } from './fly-app.ts';
import { Gate } from './gate.ts';
import { HttpGate } from './http-gate.ts';
import { Ledger } from './ledger.ts';
import { Part } from './part.ts';
import { below, leftOf, type Process, variableOf } from './processes.ts';
import { CONTROLLER_ENV } from './settings.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CELLS = ['torture-cell-1', 'torture-cell-2'];

export interface WorldOptions {
  controllers: number;
  random: () => number;
  /** More variables for the controllers. */
  env?: Record<string, string>;
}

interface FlyReady {
  ready: true;
  url: string;
}
interface SupabaseReady extends FlyReady {
  secretKeyFile: string;
}

export interface Controller {
  part: Part<FlyReady>;
  /** Where clients reach it. */
  url: string;
  /** The way of other controllers to it, and its name among them. */
  peers: Gate;
  socket: string;
}

/**
 * The whole product as processes of its own in a throw-away folder: local Supabase, local Fly with two cells, the egress proxy and several
 * controllers. Between them stand gates of ours that can misbehave: agents, controllers and machines reach nothing but through them.
 */
export class World {
  readonly stateDir: string;
  readonly apiKey = `mvk_${randomBytes(24).toString('base64url')}`;
  readonly flyToken = `torture_${randomBytes(24).toString('hex')}`;
  readonly #random: () => number;
  readonly #ended = new AbortController();
  supabase!: Part<SupabaseReady>;
  fly!: Part<FlyReady>;
  egress!: Part<{ ready: true }>;
  readonly controllers: Controller[] = [];
  /** In front of Supabase, for controllers and machines. */
  database!: HttpGate;
  /** In front of the Machines API. */
  flaps!: HttpGate;
  /** From the machines to the controllers. */
  agents!: Gate;
  ledger!: Ledger;
  #serviceKey = '';
  #stopping: Promise<string[]> | undefined;

  private constructor(stateDir: string, random: () => number) {
    this.stateDir = stateDir;
    this.#random = random;
  }

  /** Rejects when a part does not come up; nothing is left then. */
  static async start(options: WorldOptions): Promise<World> {
    const stateDir = await mkdtemp(join(tmpdir(), 'mobvibe-torture-'));
    const world = new World(stateDir, options.random);
    try {
      await world.#start(options);
      return world;
    } catch (error) {
      await world.stop({ keep: false });
      throw error;
    }
  }

  get parts(): Part<{ ready: true }>[] {
    return [this.supabase, this.egress, this.fly, ...this.controllers.map(({ part }) => part)].filter(
      (part) => part !== undefined,
    );
  }

  /** The agents of machines that run, by the name of their sandbox. */
  agentProcesses(): Map<string, Process> {
    const { process } = this.fly;
    const agents = process === undefined ? [] : below(process.pid).filter(isAgent);
    return new Map(agents.map((agent) => [variableOf(agent, 'MOBVIBE_SANDBOX') ?? '', agent]));
  }

  /** Postgres itself first, then its workers. */
  postgres(): Process[] {
    const { process } = this.supabase;
    if (process === undefined) return [];
    return below(process.pid).filter(({ command }) => /postgres/.test(command));
  }

  /** Past the gate, as its owner: for damage. */
  storage(): SupabaseClient['storage'] {
    return this.#client().storage;
  }

  #client(): SupabaseClient {
    return createClient(this.supabase.ready.url, this.#serviceKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    });
  }

  async flyControl(method: 'POST' | 'DELETE', path: string, body?: unknown): Promise<boolean> {
    const answer = await fetch(`${this.fly.ready.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.flyToken}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(5_000),
    }).catch(() => undefined);
    return answer?.ok ?? false;
  }

  /** Ends every process; the folder goes unless it is kept. Answers what is left all the same. Whoever asks again waits for the same end. */
  stop({ keep }: { keep: boolean }): Promise<string[]> {
    this.#stopping ??= this.#stop(keep);
    return this.#stopping;
  }

  async #stop(keep: boolean): Promise<string[]> {
    this.#ended.abort();
    this.ledger?.close();
    const all = this.parts.flatMap(({ process }) => {
      return process === undefined ? [] : [process, ...below(process.pid)];
    });
    for (const { part } of this.controllers) await part.kill();
    for (const part of [this.fly, this.egress, this.supabase]) await part?.stop();
    for (const { peers } of this.controllers) peers.close();
    this.agents?.close();
    await Promise.all([this.database?.close(), this.flaps?.close()]);
    const left = await leftOf(all, this.stateDir);
    if (!keep) await rm(this.stateDir, { recursive: true, force: true, maxRetries: 8, retryDelay: 100 });
    return left;
  }

  async #start({ controllers, env = {} }: WorldOptions): Promise<void> {
    // Machines' uids must be able to walk in; the secrets inside have files of mode 0600.
    await chmod(this.stateDir, 0o711);
    for (const folder of ['gateway', 'log']) await mkdir(join(this.stateDir, folder));
    const [image, supabasePort, flyPort] = await Promise.all([
      buildLocalImage(join(this.stateDir, 'images')),
      freePort(),
      freePort(),
    ]);
    this.database = await HttpGate.open(this.#random);
    this.flaps = await HttpGate.open(this.#random);
    this.agents = await Gate.open(join(this.stateDir, 'gateway/controller.sock'));
    this.database.target = supabasePort;
    this.flaps.target = flyPort;

    this.supabase = this.#part('supabase', 'local/supabase/main.ts', [
      ...['--state-dir', join(this.stateDir, 'supabase'), '--port', String(supabasePort), '--throw-away'],
    ]);
    this.fly = this.#part(
      'fly',
      'local/fly/main.ts',
      [
        ...['--state-dir', join(this.stateDir, 'fly'), '--port', String(flyPort), '--engine', 'namespaces'],
        ...['--gateway-dir', join(this.stateDir, 'gateway'), '--image', `${image.ref}=${image.dir}`],
      ],
      { FLY_API_TOKEN: this.flyToken },
    );
    this.egress = this.#part(
      'egress',
      'controller/egress/main.ts',
      [],
      {
        MOBVIBE_EGRESS_LISTEN_SOCKET: join(this.stateDir, 'gateway/egress.sock'),
        MOBVIBE_EGRESS_ALLOW: new URL(this.database.url).host,
      },
      false,
    );
    await Promise.all([this.supabase.start(), this.fly.start(), this.egress.start()]);
    this.ledger = new Ledger(join(this.stateDir, 'fly'));
    for (const cell of CELLS) await createFlyApp(this.fly.ready.url, this.flyToken, cell);
    this.#serviceKey = (await readFile(this.supabase.ready.secretKeyFile, 'utf8')).trim();
    await this.#addApiKey();
    for (let n = 0; n < controllers; n++) await this.#addController(n, image.ref, env);
  }

  async #addController(n: number, image: string, env: Record<string, string>): Promise<void> {
    const port = await freePort();
    const peers = await Gate.open();
    peers.targets = [{ port }];
    // Outside the folder that machines see: they have the gate alone.
    const socket = join(this.stateDir, `c${n}.sock`);
    const settings = {
      ...CONTROLLER_ENV,
      FLY_API_TOKEN: this.flyToken,
      FLY_APP_NAME: CELLS[0]!,
      MOBVIBE_CELL_APPS: CELLS.join(),
      FLY_FLAPS_BASE_URL: this.flaps.url,
      SUPABASE_URL: this.database.url,
      SUPABASE_SERVICE_ROLE_KEY: this.#serviceKey,
      MOBVIBE_AGENT_SECRET: createHash('sha256').update(this.apiKey).digest('hex'),
      MOBVIBE_SANDBOX_IMAGE: image,
      MOBVIBE_LISTEN_PORT: String(port),
      MOBVIBE_CONTROLLER_URL: `http://127.0.0.1:${peers.port}`,
      MOBVIBE_AGENT_LISTEN_SOCKET: socket,
      MOBVIBE_AGENT_DIAL_URL: 'ws+unix:/run/mobvibe/controller.sock:/v1/agent',
      MOBVIBE_EGRESS_PROXY_URL: 'unix:/run/mobvibe/egress.sock',
      MOBVIBE_EGRESS_PROBE_URL: `unix:${join(this.stateDir, 'gateway/egress.sock')}`,
      ...env,
    };
    const part = this.#part<FlyReady>(`controller-${n + 1}`, 'controller/main.ts', [], settings, false);
    this.controllers.push({ part, url: `http://127.0.0.1:${port}`, peers, socket });
    this.agents.targets.push({ path: socket });
    await part.start();
  }

  #part<Ready extends { ready: true }>(
    name: string,
    script: string,
    args: string[],
    env: Record<string, string> = {},
    knowsTether = true,
  ): Part<Ready> {
    const log = join(this.stateDir, 'log', name);
    const options: ChildOptions = {
      ...{ name, script: join(ROOT, script), args, env, knowsTether },
      onLog: (line) => appendFileSync(log, `${line}\n`),
    };
    return new Part<Ready>(name, () => options, this.#ended.signal);
  }

  async #addApiKey(): Promise<void> {
    const { error } = await this.#client().rpc('api_key_add', {
      p_id: 'torture',
      p_name: 'the key of this run',
      p_sha256: createHash('sha256').update(this.apiKey).digest('hex'),
    });
    if (error) throw new Error(`the API key could not be stored: ${error.message}`);
  }
}

const isAgent = ({ command }: Process) => /^\S*node .*\/opt\/agent\/agent\.js/.test(command);
