import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { pino } from 'pino';
import { expect } from 'vitest';
import { agentToken } from '../../controller/agents/token.ts';
import type { AgentEnv } from '../../controller/agents/wire.ts';
import { readConfig } from '../../controller/config.ts';
import { type Controller, type ControllerOptions, startController } from '../../controller/controller.ts';
import { connectDatabase, createStore, type Database, type Store } from '../../controller/store/index.ts';
import type { CellRow, SandboxRow } from '../../controller/store/rows.ts';
import { createFlyClient, type FlyClient, type Machine } from '../../fly/index.ts';
import { type LocalFly, startLocalFly } from '../../local/fly/server.ts';
import { createSimulatedEngine, type SimulatedMachine } from '../../local/fly/simulated/engine.ts';
import { immediateTimings } from '../../local/fly/timings.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { FakeAgent, FakeMachine } from './fake-agent.ts';

export const SECRET = 'a-secret-of-at-least-32-characters!';
export const FLY_TOKEN = 'local-token';
/** Short enough for tests, long enough that two looks are two. */
export const TIMES = {
  lookApartMs: 40,
  retryMs: 10,
  unknownGraceMs: 0,
  destroyWaitMs: 1_000,
};

/** One machine that runs, with the agent in it. */
export interface Running {
  machine: SimulatedMachine;
  agent: FakeAgent;
  /** Its agent's memory: what the test wants to see or to spoil. */
  inside: FakeMachine;
}

/** Local Supabase and local Fly, whose machines each get an agent that dials; controllers come and go. */
export class World {
  readonly supabase: LocalSupabase;
  readonly fly: LocalFly;
  readonly store: Store;
  readonly client: FlyClient;
  readonly dir: string;
  /** By sandbox name. */
  readonly machines = new Map<string, Running>();
  /** Names in the order of their boots, one for each boot. */
  readonly boots: string[] = [];
  /** Told of each machine before its agent dials. */
  onBoot: ((name: string, inside: FakeMachine) => void) | undefined;
  /** Names whose agent never dials. */
  readonly mute = new Set<string>();
  readonly #database: Database;
  readonly #controllers = new Set<Controller>();
  /** By app: what a controller is given, good for its cell alone. */
  readonly #cellTokens = new Map<string, string>();
  /** Cells that controllers of the stack were told of. */
  readonly #stacks = new Map<string, Set<string>>();
  #apps = 0;

  private constructor(parts: { supabase: LocalSupabase; fly: LocalFly; dir: string }) {
    this.supabase = parts.supabase;
    this.fly = parts.fly;
    this.dir = parts.dir;
    this.#database = connectDatabase(this.supabase.url, this.supabase.secretKey, 10_000);
    this.store = createStore(this.#database);
    this.client = createFlyClient({ token: FLY_TOKEN, baseUrl: this.fly.url });
  }

  /** `maxObjectBytes`: the limit of the project, of which nothing tells but a refusal. */
  static async start(limits: { maxObjectBytes?: number } = {}): Promise<World> {
    const dir = await mkdtemp(join(tmpdir(), 'controller-'));
    // Postgres runs as another user where the tests run as root.
    await chmod(dir, 0o755);
    let world: World | undefined;
    const engine = createSimulatedEngine({ onStart: (machine) => world?.boot(machine) });
    const [supabase, fly] = await Promise.all([
      startLocalSupabase({ stateDir: join(dir, 'supabase'), throwAway: true, ...limits }),
      startLocalFly({
        engine,
        stateDir: join(dir, 'fly'),
        tokens: [FLY_TOKEN],
        timings: immediateTimings,
        rateLimits: false,
      }),
    ]);
    world = new World({ supabase, fly, dir });
    return world;
  }

  /** A cell of its own for each test: controllers see the rows and machines of their stack's cells alone. */
  async app(): Promise<string> {
    const name = `cell-${++this.#apps}`;
    // Not through the client: it would keep to Fly's limit of one a second.
    const post = async (path: string, body: object) => {
      const made = await fetch(this.fly.url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${FLY_TOKEN}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      expect(made.ok).toBe(true);
      return (await made.json()) as { token: string };
    };
    await post('/v1/apps', { app_name: name, org_slug: 'personal' });
    const { token } = await post(`/v1/apps/${name}/deploy_token`, { expiry: '24h' });
    this.#cellTokens.set(name, token);
    return name;
  }

  async controller(
    app: string | readonly string[],
    {
      env = {},
      stack = [app].flat()[0]!,
      ...options
    }: ControllerOptions & { env?: Record<string, string>; stack?: string } = {},
  ): Promise<Controller> {
    const socket = join(this.dir, `${stack}.sock`);
    const config = readConfig({
      FLY_API_TOKEN: this.#tokenOf(stack, [app].flat()),
      FLY_APP_NAME: stack,
      MOBVIBE_CELL_APPS: [app].flat().join(','),
      MOBVIBE_STACK: stack,
      // As if each were the same machine again, whose predecessor must be gone.
      MOBVIBE_CONTROLLER_URL: `http://${stack}.test`,
      FLY_FLAPS_BASE_URL: this.fly.url,
      SUPABASE_URL: this.supabase.url,
      SUPABASE_SERVICE_ROLE_KEY: this.supabase.secretKey,
      MOBVIBE_AGENT_SECRET: SECRET,
      MOBVIBE_SANDBOX_IMAGE: 'sandbox:1',
      MOBVIBE_AGENT_DIAL_URL: `ws+unix:${socket}:/v1/agent`,
      MOBVIBE_AGENT_LISTEN_SOCKET: socket,
      MOBVIBE_LISTEN_PORT: '0',
      MOBVIBE_JOB_POLL_MS: '50',
      MOBVIBE_SHUTDOWN_TIMEOUT_MS: '0',
      ...env,
    });
    const log = pino({ level: process.env.TEST_LOG ?? 'silent' }, pino.destination(2));
    const controller = await startController(config, { log, times: TIMES, ...options });
    this.#controllers.add(controller);
    return controller;
  }

  /** As infra gives it: good for all cells that the stack has, or has had, and nothing else. */
  #tokenOf(stack: string, apps: readonly string[]): string {
    const known = new Set([...(this.#stacks.get(stack) ?? []), ...apps]);
    this.#stacks.set(stack, known);
    const tokens = [...known].flatMap((app) => this.#cellTokens.get(app) ?? []);
    return tokens.length === 0 ? 'no-token' : joined(tokens);
  }

  async close(controller: Controller): Promise<void> {
    this.#controllers.delete(controller);
    await controller.close();
  }

  /** Ends the test's controllers. */
  async closeAll(): Promise<void> {
    this.onBoot = undefined;
    this.mute.clear();
    this.fly.faults.clear();
    await Promise.all([...this.#controllers].map((controller) => this.close(controller)));
  }

  async end(): Promise<void> {
    await this.closeAll();
    for (const { agent } of this.machines.values()) agent.stop();
    this.client.close();
    await this.fly.close();
    await this.supabase.close();
    await rm(this.dir, { recursive: true, force: true });
  }

  boot(machine: SimulatedMachine): void {
    const env = machine.spec.env as unknown as AgentEnv;
    // Somebody else's machine: what is in it is none of ours.
    if (env.MOBVIBE_AGENT_DIAL_URL === undefined) return;
    const inside = new FakeMachine();
    this.onBoot?.(machine.spec.name, inside);
    const agent = new FakeAgent(env.MOBVIBE_AGENT_DIAL_URL, env.MOBVIBE_AGENT_TOKEN, inside);
    this.machines.set(machine.spec.name, { machine, agent, inside });
    this.boots.push(machine.spec.name);
    if (!this.mute.has(machine.spec.name)) agent.start();
    void machine.exited.then(() => agent.stop());
  }

  /** Another process of the machine's agent, as after a restart by init. */
  redial(machine: SimulatedMachine, inside: FakeMachine, headers: Record<string, string> = {}): FakeAgent {
    const env = machine.spec.env as unknown as AgentEnv;
    const agent = new FakeAgent(env.MOBVIBE_AGENT_DIAL_URL, env.MOBVIBE_AGENT_TOKEN, inside, headers).start();
    this.machines.set(machine.spec.name, { machine, agent, inside });
    void machine.exited.then(() => agent.stop());
    return agent;
  }

  /** The running machine of this sandbox. */
  running(name: string): Running {
    const found = this.machines.get(name);
    if (found === undefined) throw new Error(`${name} was never booted`);
    return found;
  }

  token(sandbox: string): string {
    return agentToken(SECRET, sandbox);
  }

  /** Machines that exist at Fly, in any state but destroyed. */
  live(app: string): Promise<Machine[]> {
    return this.client.listMachines(app);
  }

  /** What the database says of a stack's cells. */
  async cells(stack: string): Promise<CellRow[]> {
    const { data, error } = await this.#database.from('cells').select('*').eq('stack', stack).order('app');
    if (error) throw error;
    return data;
  }

  /** As if so much more time had passed since the sandbox's stop was committed. */
  async agePast(sandbox: string, ms: number): Promise<void> {
    await this.sql(
      `update sandboxes set stopping_at = stopping_at - $2 * interval '1 millisecond' where name = $1`,
      [sandbox, ms],
    );
  }

  /** As an operator, or the storage itself: what no function of ours would do. */
  async sql(text: string, values: unknown[] = []): Promise<void> {
    const admin = new Client(this.supabase.connection);
    await admin.connect();
    await admin.query(text, values).finally(() => admin.end());
  }

  /** As `pulumi up` does with fewer cells, or an operator by hand: with all that is in it. */
  async deleteApp(app: string): Promise<void> {
    await this.client.deleteApp(app, { force: true });
  }

  /** What the database says of every sandbox that the session ever had, oldest first. */
  async sandboxes(session: string): Promise<SandboxRow[]> {
    const all: SandboxRow[] = [];
    for (let n = 1; ; n++) {
      const row = await this.store.findSandbox(`s-${session}-${n}`);
      if (row === null) return all;
      all.push(row);
    }
  }

  /** Resolves when `look` says so, and fails with what it last threw. */
  async until(look: () => unknown | Promise<unknown>): Promise<void> {
    await expect.poll(async () => await look(), { interval: 20 }).toBeTruthy();
  }
}

/** Fly takes several tokens as one and allows what any of them allows. */
function joined(tokens: readonly string[]): string {
  return `FlyV1 ${tokens.map((token) => token.replace(/^FlyV1 /, '')).join(',')}`;
}
