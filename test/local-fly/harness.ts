import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type LocalFly, type LocalFlyOptions, startLocalFly } from '../../local/fly/server.ts';
import { VirtualClock } from '../../local/fly/simulated/clock.ts';
import {
  createSimulatedEngine,
  type SimulatedEngine,
  type SimulatedOptions,
} from '../../local/fly/simulated/engine.ts';

export const token = 'fm2_test-token';
export const config = { image: 'registry.fly.io/sandbox:1', restart: { policy: 'no' } };

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, looked into by the tests.
  body: any;
  headers: Headers;
}

export interface Bench {
  fly: LocalFly;
  engine: SimulatedEngine;
  clock: VirtualClock;
  stateDir: string;
  log: string[];
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** A machine of the app `a1`, made when it is not there yet; still in `created`. */
  // biome-ignore lint/suspicious/noExplicitAny: a machine as the API shows it.
  create(request?: Record<string, unknown>): Promise<any>;
  /** The same, booted. */
  createStarted(request?: Record<string, unknown>): Promise<string>;
  state(id: string): Promise<string>;
  /** Past every delay of the published timings. */
  settle(): Promise<void>;
}

type BenchOptions = Partial<Omit<LocalFlyOptions, 'engine'>> & { simulated?: SimulatedOptions };

/** Local Fly on the simulated engine and a clock that stands still, closed when the test is over. No rate limits unless asked for. */
export async function startBench(options: BenchOptions = {}): Promise<Bench> {
  const clock = (options.clock as VirtualClock | undefined) ?? new VirtualClock();
  const stateDir = options.stateDir ?? (await temporaryFolder());
  const engine = createSimulatedEngine(options.simulated);
  const log: string[] = [];
  const fly = await startLocalFly({
    rateLimits: false,
    tokens: [token],
    log: (sentence) => log.push(sentence),
    ...options,
    engine,
    clock,
    stateDir,
  });
  onTestFinished(() => fly.close());

  const call: Bench['call'] = async (method, path, body, headers = {}) => {
    const response = await fetch(fly.url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...headers },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined, headers: response.headers };
  };
  const create: Bench['create'] = async (request = {}) => {
    await call('POST', '/v1/apps', { app_name: 'a1' });
    const { status, body } = await call('POST', '/v1/apps/a1/machines', { config, ...request });
    if (status !== 200) throw new Error(`create answered ${status} ${JSON.stringify(body)}`);
    return body;
  };
  const settle = () => clock.advance(10_000);
  return {
    ...{ fly, engine, clock, stateDir, log, call, create, settle },
    async createStarted(request) {
      const { id } = await create(request);
      await settle();
      return id;
    },
    async state(id) {
      return (await call('GET', `/v1/apps/a1/machines/${id}`)).body.state;
    },
  };
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mobvibe-local-fly-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
