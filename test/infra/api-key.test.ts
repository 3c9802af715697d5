import { createHash, randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SupabaseClient } from '@supabase/supabase-js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { create as createKey } from '../../infra/operations/api-key.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { clientFor, makeStateDir } from '../local-supabase/project.ts';
import { type ProviderProcess, startProviderProcess } from './provider-process.ts';

let supabase: LocalSupabase;
let service: SupabaseClient;
let stateDir: string;
let process: ProviderProcess;
/** Keys that were made. */
const keys: string[] = [];
/** In front of Supabase: does with the answer to the next call what it is told here. */
let next: 'lose' | 500 | undefined;
/** Answers the next calls with these, one after the other, and does not hand them on. */
const refusals: [status: number, code: string][] = [];
let proxy: Server;
let proxyUrl: string;

beforeAll(async () => {
  stateDir = await makeStateDir();
  [supabase, process] = await Promise.all([
    startLocalSupabase({ stateDir, throwAway: true }),
    startProviderProcess({}),
  ]);
  service = clientFor(supabase.url, supabase.secretKey);
  proxy = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const refusal = refusals.shift();
    if (refusal !== undefined) {
      response.writeHead(refusal[0], { 'content-type': 'application/json' });
      return response.end(
        JSON.stringify({ code: refusal[1], message: 'refused', details: null, hint: null }),
      );
    }
    const { host, connection, ...headers } = request.headers;
    const answer = await fetch(supabase.url + request.url, {
      method: request.method!,
      headers: headers as Record<string, string>,
      body: Buffer.concat(chunks),
    });
    const body = await answer.text();
    const todo = next;
    next = undefined;
    if (todo === 'lose') return request.socket.destroy();
    response.writeHead(todo ?? answer.status, { 'content-type': 'application/json' });
    response.end(todo === undefined ? body : '{"message":"trouble"}');
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
});

afterAll(async () => {
  await process.close();
  proxy.closeAllConnections();
  proxy.close();
  await supabase.close();
  await rm(stateDir, { recursive: true, force: true });
  for (const secret of [...keys, supabase.secretKey]) expect(process.log()).not.toContain(secret);
});

const inputs = (keyId: string) => ({
  supabaseUrl: proxyUrl,
  serviceRoleKey: supabase.secretKey,
  keyId,
  name: 'Controller',
});
async function create(keyId: string) {
  const { id, outs } = await process.of('ApiKey').create(inputs(keyId));
  keys.push(String(outs.key));
  return { id, outs };
}
/** As the controller asks. */
async function idOf(key: unknown): Promise<string | undefined> {
  const p_sha256 = createHash('sha256').update(String(key)).digest('hex');
  const { data, error } = await service.rpc('api_key_check', { p_sha256 });
  expect(error).toBeNull();
  return data[0]?.id;
}

it('is made, found, and revoked', async () => {
  const provider = process.of('ApiKey');
  const { id, outs } = await create('one');
  expect(id).toBe('one');
  expect(outs).toEqual({ ...inputs('one'), key: expect.stringMatching(/^mvk_[\w-]{32}$/) });
  expect(await idOf(outs.key)).toBe('one');
  await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });
  await expect(provider.diff(id, outs, inputs('one'))).resolves.toMatchObject({ changes: false });

  await provider.delete(id, outs);
  expect(await idOf(outs.key)).toBeUndefined();
  await provider.delete(id, outs);
  await expect(provider.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
});

it('is rotated without a moment without a key', async () => {
  const provider = process.of('ApiKey');
  const old = await create('two');
  const rotated = { ...inputs('two'), rotation: '2' };
  await expect(provider.diff(old.id, old.outs, rotated)).resolves.toEqual({
    changes: true,
    replaces: ['rotation'],
    deleteBeforeReplace: false,
  });
  const fresh = await create('two');
  expect(fresh.id).toMatch(/^two-[0-9a-f]{8}$/);
  expect([await idOf(old.outs.key), await idOf(fresh.outs.key)]).toEqual(['two', fresh.id]);
  await provider.delete(old.id, old.outs);
  expect([await idOf(old.outs.key), await idOf(fresh.outs.key)]).toEqual([undefined, fresh.id]);
});

it.each(['lose', 500] as const)('is one row though the first answer was: %s', async (what) => {
  next = what;
  const { id, outs } = await create(`doubt-${what}`);
  expect(next).toBeUndefined();
  expect(id).toBe(`doubt-${what}`);
  expect(await idOf(outs.key)).toBe(id);
});

it('is made once the API knows of the migrations', async () => {
  refusals.push(
    [404, 'PGRST202'],
    [404, 'PGRST202'],
    [503, 'PGRST002'],
    [503, 'PGRST001'],
    [404, 'PGRST202'],
  );
  const { id, outs } = await create('early');
  expect(refusals).toEqual([]);
  expect(await idOf(outs.key)).toBe(id);
});

it('is not made where the migrations are not applied within 30 s, and says that', async () => {
  let now = 0;
  const waits: number[] = [];
  const time = {
    clock: () => now,
    random: () => 0.5,
    sleep: async (ms: number) => {
      waits.push(ms);
      now += ms;
    },
  };
  refusals.push(...Array.from({ length: 100 }, () => [404, 'PGRST202'] as [number, string]));
  const made = createKey(inputs('never'), randomBytes, time);
  await expect(made).rejects.toThrow(/^api_key_add: .*\(HTTP 404\); the migrations are not applied/);
  refusals.length = 0;
  expect(now).toBeGreaterThan(25_000);
  expect(now).toBeLessThanOrEqual(30_000);
  expect(waits.length).toBeGreaterThan(5);
});

it('takes on another service role key in place, and says what the database refuses', async () => {
  const provider = process.of('ApiKey');
  const { id, outs } = await create('three');
  const news = { ...inputs('three'), serviceRoleKey: 'sb_secret_another' };
  await expect(provider.diff(id, outs, news)).resolves.toMatchObject({ changes: true, replaces: [] });
  const changed = await provider.update(id, outs, news);
  expect(changed).toEqual({ ...news, key: outs.key });
  keys.push('sb_secret_another');
  await expect(provider.create(news)).rejects.toThrow(/^api_key_add: .*\(HTTP 401\)/);
  await expect(provider.delete(id, changed)).rejects.toThrow(/^api_key_revoke: /);
  expect(process.log()).toMatch(/api_key_revoke: /);
  expect(await idOf(outs.key)).toBe('three');
});
