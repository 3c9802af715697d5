import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { CREATES, createFlyClient } from '../fly/index.ts';
import { AgentHub, type LiveSandbox } from './agents/hub.ts';
import { buildApi } from './api/index.ts';
import { Closing, countOpenRequests } from './closing.ts';
import type { Config } from './config.ts';
import { egressProbeUrl, probeEgress } from './egress/probe.ts';
import { PeriodicSave } from './files/periodic.ts';
import { workspaceStorage } from './files/storage.ts';
import { WorkspaceFiles } from './files/workspace.ts';
import { JobProcessor } from './jobs/processor.ts';
import { Admission } from './sessions/admission.ts';
import { Breaker } from './sessions/breaker.ts';
import { Cells } from './sessions/cells.ts';
import { ExecRegistry } from './sessions/exec-registry.ts';
import { FlyReach, type FlyReachTimes, watchReach } from './sessions/fly-reach.ts';
import { type LifecycleTimes, SandboxLifecycle } from './sessions/lifecycle.ts';
import { createMachines } from './sessions/machines.ts';
import { SandboxManager } from './sessions/manager.ts';
import { Retention } from './sessions/retention.ts';
import { whereabouts } from './sessions/whereabouts.ts';
import { connectDatabase, createStore, type Store } from './store/index.ts';
import { DatabaseClock, watchClock } from './telemetry/clock.ts';
import { createLog } from './telemetry/log.ts';
import { createMetrics } from './telemetry/metrics.ts';

export interface ControllerOptions {
  /** The computer's own clock, Unix milliseconds, which may be wrong. Default `Date.now`. */
  clock?: () => number;
  /** The database's, by which everything is decided. Default: measured with each renewal of the cells. */
  databaseTime?: () => number;
  /** In [0, 1). Default `Math.random`. */
  random?: () => number;
  /** Milliseconds from any origin that never go back. Default `performance.now`. */
  monotonic?: () => number;
  log?: Logger;
  /** Shorter ones for tests. */
  times?: Partial<LifecycleTimes>;
  reach?: Partial<FlyReachTimes>;
}

export interface Controller {
  /** Of the API. */
  url: string;
  manager: SandboxManager;
  lifecycle: SandboxLifecycle;
  cells: Cells;
  files: WorkspaceFiles;
  jobs: JobProcessor;
  hub: AgentHub;
  store: Store;
  /** Drains within MOBVIBE_SHUTDOWN_TIMEOUT_MS: no more work is taken, steps under way may end, sandboxes go on running. */
  close(): Promise<void>;
  /** What `close` has not waited for to its end, or waits for now. */
  readonly unfinished: readonly string[];
}

/** Puts the controller together and starts it. Rejects when it can't listen; whatever else is down is tried again. */
export async function startController(config: Config, options: ControllerOptions = {}): Promise<Controller> {
  const { clock: local = Date.now, random = Math.random, monotonic = () => performance.now() } = options;
  const { log = createLog(config.logLevel) } = options;
  const metrics = createMetrics();
  const database = connectDatabase(
    config.supabaseUrl,
    config.supabaseServiceRoleKey,
    config.databaseTimeoutMs,
  );
  const store = createStore(database, (app) => cells.token(app));
  const databaseClock = new DatabaseClock({ monotonic, local, log });
  const clock = options.databaseTime ?? (() => databaseClock.now());
  const reach = new FlyReach({
    monotonic,
    ask: () => machines.ping(),
    ...(options.reach && { times: options.reach }),
  });
  const cells = new Cells({
    ...{ store, config, log, monotonic },
    able: () => reach.able,
    onDatabaseTime: (now, askedAt, answeredAt) => databaseClock.set(now, askedAt, answeredAt),
  });
  const fly = createFlyClient({
    token: config.flyApiToken,
    baseUrl: config.flyFlapsBaseUrl,
    random,
    onCall: (event) => {
      metrics.flyCall(event);
      reach.saw(event);
    },
  });
  const machines = createMachines(fly, config);
  const hub = new AgentHub({ secret: config.agentSecret, liveSandbox: liveSandbox(store, cells), log });
  cells.on('moved', (app) => hub.dropCell(app));
  const storage = workspaceStorage(database, {
    url: config.supabaseUrl,
    timeoutMs: config.databaseTimeoutMs,
  });
  const files = new WorkspaceFiles({ store, storage, hub, config, log, clock, onSave: metrics.saved });
  const execs = new ExecRegistry({ store, log });
  const common = { store, cells, hub, files, execs, config, log, clock, random };
  const { startTimeoutMs } = config;
  const lifecycle = new SandboxLifecycle({
    ...common,
    machines,
    admission: new Admission({ creates: CREATES, startTimeoutMs, monotonic }),
    breaker: new Breaker({ startTimeoutMs, monotonic }),
    refused: metrics.refused,
    ...(options.times && { times: options.times }),
  });
  const manager = new SandboxManager({ ...common, lifecycle });
  const jobs = new JobProcessor({ ...common, lifecycle });
  const saves = new PeriodicSave({ ...common, changes: lifecycle });
  metrics.watch(lifecycle, hub, cells, { counts: () => lifecycle.counts });
  metrics.watchSaves(files.ledger, config.saveIntervalMs, clock);
  const egress = egressProbeUrl(config);
  const retention = new Retention(common);
  watchClock(metrics.registry, databaseClock);
  watchReach(metrics.registry, reach);
  const api = await buildApi({
    manager,
    elsewhere: (session, starts) => whereabouts({ store, cells, open: lifecycle.open }, session, starts),
    lifecycle,
    files,
    execs,
    jobs,
    store,
    probes: {
      database: () => store.ping(),
      fly: () => machines.ping(),
      storage: () => storage.ping(),
      ...(egress !== undefined && { egress: (signal) => probeEgress(egress, signal) }),
    },
    log,
    metrics: metrics.registry,
    execTimeoutMs: config.execTimeoutMs,
    clock: local,
  });

  const openRequests = countOpenRequests(api.server);
  api.server.on('upgrade', (request, socket, head) => hub.handleUpgrade(request, socket, head));
  let url: string;
  const agentServers: Server[] = [];
  try {
    url = await listen(api, config);
    // Only now: who can't have the port may be a second controller by mistake, and must not take the first one's socket.
    for (const door of agentDoors(config)) agentServers.push(await listenForAgents(door, hub));
  } catch (error) {
    for (const server of agentServers) server.close();
    await api.close();
    fly.close();
    throw error;
  }
  // Only now, as whoever has the port is the one that others reach there.
  cells.start(ownAddress(config, url));
  lifecycle.startCleanup();
  jobs.start();
  saves.start();
  retention.start();
  reach.start();
  log.info({ url, cells: config.cellApps, stack: config.stack }, 'controller is ready');

  let closing: Closing | undefined;
  const close = async (): Promise<void> => {
    log.info('shutting down');
    closing = new Closing(config.shutdownTimeoutMs, monotonic, log);
    reach.stop();
    const { workEndsAt, givingEndsAt, graceMs } = closing;
    // Work that needs agents ends before their connections do; the API goes on answering until then.
    const work = Promise.all([
      closing.step('handing over jobs', givingEndsAt, () => jobs.shutdown()),
      closing.step('saving files', givingEndsAt, () => saves.stop(graceMs)),
      closing.step('removing what is old', givingEndsAt, () => retention.stop()),
      closing.step('steps of sandboxes', givingEndsAt, () => lifecycle.shutdown(graceMs)),
    ]);
    await closing.within(workEndsAt, work);
    // What is cut off now and still writes is told by its lease that the cell has been given back.
    await Promise.all([work, closing.step('giving back cells', givingEndsAt, () => cells.close())]);
    hub.close();
    for (const server of agentServers) server.close();
    await closeApi(api, closing, openRequests);
    await execs.flush(Math.min(FLUSH_MS, closing.leftMs(closing.endsAt)));
    fly.close();
  };
  return {
    url,
    manager,
    lifecycle,
    cells,
    files,
    jobs,
    hub,
    store,
    close,
    get unfinished() {
      return closing?.unfinished ?? [];
    },
  };
}

/** Ends of execs that were just seen are written down within this time, or by the stop of their sandbox. */
const FLUSH_MS = 1_000;

/** An agent may call from the moment its row is there until its machine is to be destroyed. */
function liveSandbox(store: Store, cells: Cells): (sandbox: string) => Promise<LiveSandbox | null> {
  return async (sandbox) => {
    const row = await store.findSandbox(sandbox);
    if (row === null || row.state === 'destroying' || row.state === 'gone') return null;
    const { incarnation, app } = row;
    const elsewhere = await cells.elsewhere(app);
    if (elsewhere === null && !cells.holds(app)) throw new Error(`nobody works for the cell ${app} now`);
    return { incarnation, app, elsewhere: elsewhere ?? undefined };
  };
}

/** How other controllers reach this one. An address that means every address is replaced by the name of this computer. */
export function ownAddress(
  { controllerUrl, flyMachineId, flyAppName }: Pick<Config, 'controllerUrl' | 'flyMachineId' | 'flyAppName'>,
  listening: string,
): string {
  if (controllerUrl !== undefined) return controllerUrl;
  const { hostname: host, port } = new URL(listening);
  if (flyMachineId !== undefined) return `http://${flyMachineId}.vm.${flyAppName}.internal:${port}`;
  return host === '0.0.0.0' || host === '[::]' ? `http://${hostname()}:${port}` : listening;
}

/**
 * Lets answers under way end until the time is over, then cuts what is left, say an upload. `close` itself looks for idle connections once;
 * one whose last answer is just being sent is kept by its client, and idle a moment later.
 */
async function closeApi(api: FastifyInstance, closing: Closing, openRequests: () => number): Promise<void> {
  const looks = setInterval(() => api.server.closeIdleConnections(), 50);
  const tooLate = setTimeout(() => {
    if (openRequests() > 0) closing.cut(`answering ${openRequests()} requests`);
    api.server.closeAllConnections();
  }, closing.leftMs(closing.endsAt));
  try {
    await api.close();
  } finally {
    clearInterval(looks);
    clearTimeout(tooLate);
  }
}

async function listen(api: FastifyInstance, config: Config): Promise<string> {
  await api.listen({ host: config.listenHost, port: config.listenPort });
  const { address, family, port } = api.server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

type AgentDoor = { path: string } | { port: number; host: string };

function agentDoors({
  agentListenSocket: path,
  agentListenPort: port,
  listenHost: host,
}: Config): AgentDoor[] {
  return [...(path === undefined ? [] : [{ path }]), ...(port === undefined ? [] : [{ port, host }])];
}

/** A second way in, for agents alone: next to machines that have no network, or where the API must not be reached. */
async function listenForAgents(where: AgentDoor, hub: AgentHub): Promise<Server> {
  const server = createServer((_request, response) => response.writeHead(404).end());
  server.on('upgrade', (request, socket, head) => hub.handleUpgrade(request, socket, head));
  // Left behind by a controller that was killed; a live one holds the TCP port as well.
  if ('path' in where) await rm(where.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(where, resolve);
  });
  // Agents have other uids; what lets them in is their token.
  if ('path' in where) await chmod(where.path, 0o666);
  return server;
}
