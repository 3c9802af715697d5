import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LocalFly, type LocalFlyOptions, startLocalFly } from '../../local/fly/server.ts';
import {
  createSimulatedEngine,
  type SimulatedEngine,
  type SimulatedOptions,
} from '../../local/fly/simulated/engine.ts';
import { immediateTimings } from '../../local/fly/timings.ts';

export const TOKEN = 'fm2_canary-of-the-organisation';
export const ORG = 'acme';

export interface FlyWorld {
  fly: LocalFly;
  engine: SimulatedEngine;
  /** As another user of the organisation: past our client and its pace. Throws for what is not 2xx or 404. */
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, looked into by the tests.
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<any>;
  /** Another app, by name. */
  app(request?: Record<string, unknown>): Promise<string>;
  close(): Promise<void>;
}

/**
 * Local Fly on the simulated engine, in real time. Without its rate limits, which `fly/`'s own tests are about: tests of
 * one file would stand in line behind each other.
 */
export async function startFlyWorld(
  simulated: SimulatedOptions = {},
  options: Partial<LocalFlyOptions> = {},
): Promise<FlyWorld> {
  const stateDir = await mkdtemp(join(tmpdir(), 'mobvibe-infra-'));
  const engine = createSimulatedEngine(simulated);
  const given = { timings: immediateTimings, rateLimits: false, ...options };
  const fly = await startLocalFly({ ...given, engine, stateDir, tokens: [TOKEN] });
  const call: FlyWorld['call'] = async (method, path, body, headers = {}) => {
    const response = await fetch(fly.url + path, {
      method,
      headers: { authorization: `Bearer ${TOKEN}`, ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok && response.status !== 404)
      throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  };
  let apps = 0;
  return {
    fly,
    engine,
    call,
    async app(request = {}) {
      const name = `app-${++apps}`;
      await call('POST', '/v1/apps', { app_name: name, org_slug: ORG, ...request });
      return name;
    },
    async close() {
      await fly.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}
