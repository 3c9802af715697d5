import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MobVibe } from '../../client/index.ts';
import type { Controller, ControllerOptions } from '../../controller/controller.ts';
import { newKey } from './key.ts';
import { FLY_TOKEN, SECRET, type World } from './world.ts';

/** Plays Flycast and Fly's proxy: one address, behind which each connection goes to the next of the controllers that takes it. */
class Balancer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** URLs of controllers. */
  backends: string[] = [];
  #next = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => this.#lead(socket, this.backends.length));
  }

  static async start(): Promise<Balancer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Balancer(server);
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #lead(socket: Socket, tries: number): void {
    socket.on('error', () => {});
    const backend = this.backends[this.#next++ % this.backends.length];
    if (backend === undefined || tries === 0) return void socket.destroy();
    const { hostname, port } = new URL(backend);
    const upstream = connect(Number(port), hostname);
    let connected = false;
    upstream.on('error', () => (connected ? socket.destroy() : this.#lead(socket, tries - 1)));
    upstream.once('connect', () => {
      connected = true;
      for (const one of [socket, upstream]) this.#sockets.add(one);
      socket.pipe(upstream).pipe(socket);
      socket.once('close', () => upstream.destroy());
      upstream.once('close', () => socket.destroy());
    });
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

export interface Member {
  url: string;
  child: ChildProcess;
  exit: Promise<number | null>;
}

/** Several controllers of one stack, behind one address for callers and one for agents. */
export class Fleet {
  readonly world: World;
  readonly cells: string[];
  readonly api: Balancer;
  readonly agents: Balancer;
  /** Talks to whichever controller takes the connection. */
  readonly mobvibe: MobVibe;
  readonly apiKey: string;
  readonly #env: Record<string, string>;
  readonly #children: ChildProcess[] = [];

  private constructor(
    world: World,
    cells: string[],
    proxies: { api: Balancer; agents: Balancer },
    apiKey: string,
    leaseMs: number,
  ) {
    this.world = world;
    this.cells = cells;
    this.api = proxies.api;
    this.agents = proxies.agents;
    this.apiKey = apiKey;
    this.mobvibe = new MobVibe({ url: `http://${this.api.host}`, apiKey });
    this.#env = {
      FLY_APP_NAME: cells[0]!,
      MOBVIBE_CELL_APPS: cells.join(','),
      MOBVIBE_STACK: cells[0]!,
      MOBVIBE_CELL_LEASE_MS: String(leaseMs),
      MOBVIBE_JOB_LEASE_MS: '1000',
      MOBVIBE_JOB_POLL_MS: '50',
      MOBVIBE_CLEANUP_INTERVAL_MS: '200',
      MOBVIBE_AGENT_DIAL_URL: `ws://${this.agents.host}/v1/agent`,
      MOBVIBE_AGENT_LISTEN_SOCKET: '',
      // Each is reached where it listens.
      MOBVIBE_CONTROLLER_URL: '',
    };
  }

  static async start(world: World, { cells, leaseMs }: { cells: number; leaseMs: number }): Promise<Fleet> {
    const apps: string[] = [];
    for (let n = 0; n < cells; n++) apps.push(await world.app());
    const proxies = { api: await Balancer.start(), agents: await Balancer.start() };
    return new Fleet(world, apps, proxies, await newKey(world.store), leaseMs);
  }

  /** A controller in a process of its own. */
  async spawn(env: Record<string, string> = {}): Promise<Member> {
    const script = fileURLToPath(new URL('../../controller/main.ts', import.meta.url));
    const child = spawn(process.execPath, [script], {
      stdio: ['ignore', 'pipe', process.env.TEST_LOG === undefined ? 'ignore' : 'inherit'],
      env: {
        FLY_API_TOKEN: FLY_TOKEN,
        FLY_FLAPS_BASE_URL: this.world.fly.url,
        SUPABASE_URL: this.world.supabase.url,
        SUPABASE_SERVICE_ROLE_KEY: this.world.supabase.secretKey,
        MOBVIBE_AGENT_SECRET: SECRET,
        MOBVIBE_SANDBOX_IMAGE: 'sandbox:1',
        MOBVIBE_LISTEN_PORT: '0',
        ...this.#env,
        ...env,
      },
    });
    this.#children.push(child);
    const exit = once(child, 'exit').then(([code]) => code as number | null);
    const [line] = await once(createInterface(child.stdout!), 'line');
    const { url } = JSON.parse(line as string) as { url: string };
    this.#join(url);
    return { url, child, exit };
  }

  /** A controller in this process. */
  async within(env: Record<string, string> = {}, options: ControllerOptions = {}): Promise<Controller> {
    const controller = await this.world.controller(this.cells, { ...options, env: { ...this.#env, ...env } });
    this.#join(controller.url);
    return controller;
  }

  /** Who works for which cell now, as the database says. */
  async holders(): Promise<Record<string, string | null>> {
    return Object.fromEntries(
      (await this.world.cells(this.cells[0]!)).map(({ app, holder }) => [app, holder]),
    );
  }

  /** Resolves when each of these holds so many cells. */
  async share(sizes: Record<string, number>): Promise<void> {
    await this.world.until(async () => {
      const holders = Object.values(await this.holders());
      return Object.entries(sizes).every(
        ([url, size]) => holders.filter((one) => one === url).length === size,
      );
    });
  }

  /** A session whose sandbox lives in a cell of this controller. */
  async sessionAt(url: string, id: string): Promise<string> {
    const backends = this.api.backends;
    this.api.backends = [url];
    const session = await this.mobvibe.sessions.create({ id });
    this.api.backends = backends;
    return session.id;
  }

  /** A controller that has ended is led to no more, as on Fly. */
  leave(url: string): void {
    for (const balancer of [this.api, this.agents]) {
      balancer.backends = balancer.backends.filter((backend) => backend !== url);
    }
  }

  end(): void {
    for (const child of this.#children) child.kill('SIGKILL');
    this.api.close();
    this.agents.close();
  }

  #join(url: string): void {
    this.api.backends.push(url);
    this.agents.backends.push(url);
  }
}
