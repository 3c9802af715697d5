import { join } from 'node:path';
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import type { GivenToken } from './access.ts';
import type { Action } from './actions.ts';
import { Apps } from './apps.ts';
import { guardCalls } from './calls.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Core } from './core.ts';
import type { Engine } from './engine.ts';
import { type Fault, Faults } from './faults.ts';
import { createIds } from './ids.ts';
import type { Log } from './log.ts';
import { Fleet } from './machines/fleet.ts';
import { FlyProxy } from './proxy.ts';
import { appRoutes, deleteApp } from './routes/apps.ts';
import { controlRoutes } from './routes/control.ts';
import { graphqlRoutes } from './routes/graphql.ts';
import { ipRoutes } from './routes/ip-assignments.ts';
import { leaseRoutes } from './routes/leases.ts';
import { lifecycleRoutes } from './routes/lifecycle.ts';
import { machineRoutes } from './routes/machines.ts';
import { metadataRoutes } from './routes/metadata.ts';
import { networkPolicyRoutes } from './routes/network-policies.ts';
import { orgRoutes } from './routes/orgs.ts';
import { platformRoutes } from './routes/platform.ts';
import { secretRoutes } from './routes/secrets.ts';
import { FlyError } from './rules/errors.ts';
import { lockStateDir } from './state/lock.ts';
import { Records } from './state/records.ts';
import { immediateTimings, publishedTimings, type Timings } from './timings.ts';
import type { AppRecord, MachineRecord } from './wire.ts';

const routes = [
  appRoutes,
  machineRoutes,
  lifecycleRoutes,
  leaseRoutes,
  metadataRoutes,
  secretRoutes,
  networkPolicyRoutes,
  ipRoutes,
  platformRoutes,
  orgRoutes,
  graphqlRoutes,
  controlRoutes,
];

export interface LocalFlyOptions {
  /** Or what opens it, once the folder is known to be free: an engine may clear what an earlier one left there. */
  engine: Engine | (() => Promise<Engine>);
  /** Kept between starts; one local Fly at a time. */
  stateDir: string;
  /** Deploy tokens are made by the API. */
  tokens: readonly GivenToken[];
  /** Default 0: any free one. */
  port?: number;
  /** Default 127.0.0.1. */
  host?: string;
  clock?: Clock;
  /** In [0, 1). */
  random?: () => number;
  /** Default: Fly's published ones for the simulated engine, none for real ones. */
  timings?: Partial<Timings>;
  /** Fly's own limits. Default true: a client that only works without them fails in production. */
  rateLimits?: boolean;
  /** Switched on from the start. */
  faults?: readonly Fault[];
  /** Default: silent. */
  log?: Log;
}

export interface LocalFly {
  /** For `FLY_FLAPS_BASE_URL`. */
  readonly url: string;
  readonly engine: Engine;
  readonly faults: Faults;
  /** What became of machines that were not at rest when the last local Fly on this folder ended; a sentence each. */
  readonly recovered: readonly string[];
  /** Sudden death of a machine's main process. Throws `FlyError` when it does not run. */
  kill(machineId: string, options?: { oomKilled?: boolean }): Promise<void>;
  /** From now on the machine's host can, or cannot, be reached. */
  setHostStatus(machineId: string, status: 'ok' | 'unreachable'): void;
  /** Stops what runs as its `stop_config` says and resolves when all is at rest. */
  stopMachines(): Promise<void>;
  /** Ends at once, machines included: for those it is as if local Fly had been killed. */
  close(): Promise<void>;
}

/** Fly's Machines API on this computer. Rejects when the folder is in use or the port is taken. */
export async function startLocalFly(options: LocalFlyOptions): Promise<LocalFly> {
  const unlock = await lockStateDir(options.stateDir);
  let engine: Engine | undefined;
  try {
    engine = typeof options.engine === 'function' ? await options.engine() : options.engine;
    return await serve(options, engine, unlock);
  } catch (error) {
    await engine?.close();
    await unlock();
    throw error;
  }
}

async function serve(
  options: LocalFlyOptions,
  engine: Engine,
  unlock: () => Promise<void>,
): Promise<LocalFly> {
  const { stateDir, clock = systemClock, random = Math.random, log = () => {} } = options;
  const closing = new AbortController();
  const ids = createIds(clock, random);
  const defaults = engine.name === 'simulated' ? publishedTimings : immediateTimings;
  const apps = new Apps(new Records<AppRecord>(join(stateDir, 'apps')), { clock, ids });
  const faults: Faults = new Faults(() => fleet.all().map(({ record }) => record));
  const fleet = new Fleet(apps, new Records<MachineRecord>(join(stateDir, 'machines')), {
    engine,
    clock,
    ids,
    faults,
    log,
    timings: { ...defaults, ...options.timings },
    isClosing: () => closing.signal.aborted,
    onChange: (app) => proxy.follow(app),
  });
  const proxy = new FlyProxy({
    addressesOf: (app) => apps.addressesOf(app),
    servicesOf: (app) => fleet.ofApp(app).flatMap(({ record }) => record.config.services ?? []),
    reachableOf: (app) => fleet.ofApp(app).flatMap((machine) => machine.reachable() ?? []),
    log,
  });
  const core: Core = { apps, fleet, proxy, faults, clock, ids, log, closing: closing.signal };
  for (const fault of options.faults ?? []) faults.add(fault);

  const server = Fastify({ forceCloseConnections: true, routerOptions: { ignoreTrailingSlash: true } });
  readAnyBodyAsJson(server);
  guardCalls(server, core, options);
  server.setErrorHandler<FastifyError>((error, _request, reply) => {
    if (error instanceof FlyError) return reply.code(error.status).send(error.body);
    const status = error.statusCode ?? 500;
    if (status >= 500) log(`local Fly failed: ${error.stack}`);
    return reply.code(status).send({ error: error.message });
  });
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(501)
      .send({ error: `local Fly does not support ${request.method} ${request.url.split('?')[0]}` }),
  );
  for (const addRoutes of routes) addRoutes(server, core);

  const recovered = await fleet.recover();
  for (const sentence of recovered) log(sentence);
  for (const app of apps.beingDeleted()) deleteApp(core, app);
  for (const { name } of apps.all()) proxy.follow(name);
  const url = await server.listen({ port: options.port ?? 0, host: options.host ?? '127.0.0.1' });
  return {
    url,
    engine,
    faults,
    recovered,
    kill: (machineId, { oomKilled = false } = {}) => fleet.byId(machineId).die({ oomKilled }),
    setHostStatus: (machineId, status) =>
      fleet.byId(machineId).amend((record) => {
        record.host_status = status;
      }),
    stopMachines: () => fleet.stopAll(),
    async close() {
      closing.abort();
      proxy.close();
      await server.close();
      await engine.close();
      await unlock();
    },
  };
}

/** Go decodes a body as JSON whatever its type is called, and clients send `application/json` with none at all. */
function readAnyBodyAsJson(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    if (body === '') return done(null, undefined);
    try {
      done(null, JSON.parse(body as string));
    } catch {
      done(new FlyError(400, 'invalid_argument: the body is not JSON'));
    }
  });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    action?: Action;
  }
}
