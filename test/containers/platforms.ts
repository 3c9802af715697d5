import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createDockerEngine } from '../../local/fly/docker/index.ts';
import { APP, OWNER, ownershipOf } from '../../local/fly/docker/ownership.ts';
import { type LocalFly, startLocalFly } from '../../local/fly/server.ts';
import { freePort } from '../../local/stack/port.ts';
import { startRegistry } from '../../local/stack/registry.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { findBase } from '../image/base-image.ts';
import { docker, engineMissing } from '../image/docker.ts';

/** What `npm run platforms` starts, on ports of its own. */
export interface Platforms {
  fly: LocalFly;
  supabase: LocalSupabase;
  /** Settings of a stack on them; its secrets are the caller's to give. */
  settings: Record<string, string>;
  /** What local Fly and its machines said. */
  log: string[];
  /** Ids of this local Fly's containers of these apps, whether they run or not. */
  containersOf(...apps: string[]): Promise<string[]>;
  close(): Promise<void>;
}

export interface PlatformsOptions {
  /** Exists, and may be entered by everybody. */
  home: string;
  token: string;
  /** Without our migrations. */
  bare: boolean;
}

/** Throws a sentence that says what is missing: Docker, a base image, a registry. */
export async function startPlatforms({ home, token, bare }: PlatformsOptions): Promise<Platforms> {
  const missing = engineMissing();
  if (missing !== undefined) throw new Missing(missing);
  const registry = await startRegistry(join(home, 'registry'), await freePort());
  if (!registry) throw new Missing('docker-registry is not installed');
  const opened: { close(): Promise<void> }[] = [{ close: () => registry.stop() }];
  const close = async () => {
    for (const one of opened.splice(0).reverse()) await one.close();
  };
  try {
    const base = await baseWithNode(home);
    const supabase = await startLocalSupabase({ stateDir: join(home, 'supabase'), bare, throwAway: true });
    opened.push(supabase);
    const port = await freePort();
    const supabasePort = Number(new URL(supabase.url).port);
    const log: string[] = [];
    const fly = await startLocalFly({
      engine: () =>
        createDockerEngine({
          stateDir: join(home, 'fly'),
          hostPorts: [port, supabasePort],
          log: (line) => log.push(line),
        }),
      ...{ stateDir: join(home, 'fly'), port, tokens: [token], rateLimits: false },
      log: (line) => log.push(line),
    });
    opened.push(fly);
    const settings = {
      flyOrg: 'personal',
      flyApiUrl: fly.url,
      flyApiUrlInside: `http://host.docker.internal:${port}`,
      supabaseUrl: supabase.url,
      supabaseUrlInside: `http://host.docker.internal:${supabasePort}`,
      registry: registry.host,
      ...{ apiPort: '8080', apiTls: 'false', urlTemplate: 'http://{address}:8080' },
      ...{ sandboxTarget: 'base', sandboxMemoryMb: '256', sandboxBase: base, controllerBase: base },
    };
    const { owner } = ownershipOf(await realpath(join(home, 'fly')), '');
    const containersOf = async (...apps: string[]) => {
      const ids = apps.map((app) => {
        const labels = [`label=${OWNER}=${owner}`, `label=${APP}=${app}`];
        return docker(['ps', '--all', '--quiet', ...labels.flatMap((label) => ['--filter', label])]);
      });
      return (await Promise.all(ids)).flatMap((lines) => lines.split('\n').filter(Boolean));
    };
    return { fly, supabase, settings, log, containersOf, close };
  } catch (error) {
    await close();
    throw error;
  }
}

export class Missing extends Error {}

/** An image with Node, built from what is here. */
async function baseWithNode(home: string): Promise<string> {
  const scratch = join(home, 'base');
  await mkdir(scratch);
  const base = await findBase(scratch);
  if (typeof base === 'string') throw new Missing(base);
  if (base.node === undefined) return base.ref;
  const ref = base.ref.replace(/^mobvibe-test\/debian:/, `mobvibe-test/node-${process.version}:`);
  await writeFile(join(scratch, 'Dockerfile'), `FROM ${base.ref}\nCOPY node/ /usr/local/\n`);
  await docker(['build', '--quiet', '--tag', ref, scratch]);
  return ref;
}
