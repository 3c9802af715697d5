import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createFlyClient } from '../../fly/index.ts';
import { database, judgeFailure, judgeMigrations } from '../../infra/doctor/database.ts';
import { ok } from '../../infra/doctor/finding.ts';
import { flyToken } from '../../infra/doctor/fly.ts';
import { judgeAnswer, roleOfKey, supabaseProject } from '../../infra/doctor/supabase.ts';
import { dbUrlOf } from '../../local/supabase/keys.ts';
import type { LocalSupabase } from '../../local/supabase/server.ts';
import { scriptedServer } from '../fly/scripted-server.ts';
import { type Project, startProject } from '../local-supabase/project.ts';
import { type FlyWorld, ORG, startFlyWorld, TOKEN } from './fly-world.ts';

const timeoutMs = 20_000;
const MIGRATIONS = new URL('../../supabase/migrations/', import.meta.url);
const signal = () => AbortSignal.timeout(timeoutMs);

describe('Fly’s token', () => {
  let world: FlyWorld;
  beforeAll(async () => {
    world = await startFlyWorld();
  });
  afterAll(() => world.close());
  const ask = (
    token: string | undefined,
    { baseUrl = world.fly.url, org = ORG as string | undefined } = {},
  ) => flyToken({ token, baseUrl, org, timeoutMs }, signal());

  test('of the organisation lists its apps', async () => {
    await world.app();
    const { status, says } = await ask(TOKEN);
    expect(status).toBe('ok');
    expect(says).toMatch(/^lists 1 app of acme/);
  });
  test('that is not set', async () => {
    expect(await ask(undefined)).toEqual({
      status: 'wrong',
      says: 'FLY_API_TOKEN is not set',
      mend: 'export FLY_API_TOKEN="$(fly tokens create org -o acme -x 24h)"',
    });
  });
  test('that Fly does not know', async () => {
    const verdict = await ask('fm2_canary-of-nobody');
    expect(verdict).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/HTTP 401/),
      mend: expect.stringMatching(/fly tokens create org/),
    });
    expect(JSON.stringify(verdict)).not.toContain('canary');
  });
  test('of a single app', async () => {
    const fly = createFlyClient({ token: TOKEN, baseUrl: world.fly.url });
    const token = await fly.createDeployToken(await world.app(), '1h');
    fly.close();
    expect(await ask(token)).toMatchObject({
      status: 'wrong',
      mend: expect.stringMatching(/fly tokens create org/),
    });
  });
  test('without a way to Fly', async () => {
    expect(await ask(TOKEN, { baseUrl: 'http://127.0.0.1:1' })).toEqual({
      status: 'wrong',
      says: 'http://127.0.0.1:1 does not answer as it should: no connection',
      mend: 'curl -sS http://127.0.0.1:1/v1/platform/regions',
    });
  });

  /** Fly's answers as its OpenAPI document has them, where local Fly has none. */
  const tokens = async (list: object[]) => {
    const { url } = await scriptedServer(({ path }) => ({
      json: path === '/v1/tokens/current' ? { tokens: list } : { total_apps: 0, apps: [] },
    }));
    return ask(TOKEN, { baseUrl: url });
  };
  test('as Fly describes it: for all of the organisation', async () => {
    const all = ok('lists 0 apps of acme, and is not limited to single ones');
    expect(await tokens([{ org_slug: 'acme', apps: null }])).toEqual(all);
    expect(await tokens([{ org_slug: 'acme', apps: ['one'] }, { org_slug: 'acme' }])).toEqual(all);
  });
  test.each([
    [[{ org_slug: 'acme', apps: ['one', 'two'] }], 'the token is for one, two alone'],
    [[{ org_slug: 'acme', restricted_to_machine: 'm1' }], 'the token is for m1 alone'],
    [[{ org_slug: 'other' }], 'the token is for other, and the stack is for acme'],
    [[], 'the token is for no organisation'],
  ])('as Fly describes it: %j', async (list, words) => {
    expect(await tokens(list)).toMatchObject({ status: 'wrong', says: expect.stringContaining(words) });
  });
  test.each([
    [401, 'does not know the token'],
    [403, 'not for the organisation acme'],
    [404, 'knows no organisation acme'],
    [400, 'does not answer as it should'],
  ])('HTTP %d', async (status, words) => {
    const { url } = await scriptedServer(() => ({ status, json: { error: 'no' } }));
    expect(await ask(TOKEN, { baseUrl: url })).toMatchObject({
      status: 'wrong',
      says: expect.stringContaining(words),
    });
  });
  test('without a stack is only shown to Fly', async () => {
    const { url } = await scriptedServer(() => ({ json: { tokens: [] } }));
    expect(await flyToken({ token: TOKEN, baseUrl: url, org: undefined, timeoutMs }, signal())).toMatchObject(
      {
        status: 'ok',
        says: expect.stringContaining('no stack says for which organisation'),
      },
    );
  });
});

describe('Supabase', () => {
  let project: Project;
  let supabase: LocalSupabase;
  beforeAll(async () => {
    project = await startProject({ migrationsDir: fileURLToPath(MIGRATIONS) });
    supabase = project.supabase;
  });
  afterAll(() => project?.close());
  const urlOf = ({ connection }: LocalSupabase, more: Partial<LocalSupabase['connection']> = {}) =>
    dbUrlOf({ ...connection, ...more });

  test('takes the service role’s key', async () => {
    const { url, secretKey } = supabase;
    expect(await supabaseProject(url, secretKey, signal())).toEqual(
      ok(`${url} takes the service role's key`),
    );
  });
  test('is given another key', async () => {
    const { url, publishableKey } = supabase;
    expect(await supabaseProject(url, publishableKey, signal())).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/^the key is that of anon/),
      mend: 'pulumi config set --secret supabaseServiceRoleKey',
    });
    const verdict = await supabaseProject(url, 'sb_secret_canary-of-another-project', signal());
    expect(verdict).toMatchObject({ status: 'wrong', says: `${url} does not take the key (HTTP 401)` });
    expect(JSON.stringify(verdict)).not.toContain('canary');
  });
  test('a key that does not say whose it is, and is not the service role’s', async () => {
    const { url } = await scriptedServer(() => ({
      status: 403,
      json: { code: '42501', message: 'permission denied for function api_key_check' },
    }));
    expect(await supabaseProject(url, 'a-key', signal())).toMatchObject({
      status: 'wrong',
      says: `${url} takes the key, but not as the service role's`,
    });
  });
  test('is not there', async () => {
    const verdict = await supabaseProject('http://127.0.0.1:1', 'sb_secret_x', signal());
    expect(verdict).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/^http:\/\/127.0.0.1:1 can't be reached/),
    });
    expect(judgeAnswer('https://x', 544, undefined, 'paused').says).toBe(
      'https://x answers with HTTP 544: paused',
    );
  });
  test.each([
    ['sb_secret_x', 'service_role'],
    ['sb_publishable_x', 'anon'],
    [`e.${Buffer.from('{"role":"service_role"}').toString('base64url')}.s`, 'service_role'],
    [`e.${Buffer.from('{"role":"anon"}').toString('base64url')}.s`, 'anon'],
    ['e.?.s', undefined],
    ['x', undefined],
  ])('the key %s is of %s', (key, role) => expect(roleOfKey(key)).toBe(role));

  test('its database may be changed, and all migrations are applied', async () => {
    const { right, migrations } = await database(urlOf(supabase), MIGRATIONS, signal());
    expect(right).toEqual(ok(`${supabase.connection.user} may change the schema`));
    expect(migrations).toEqual({ status: 'ok', says: expect.stringMatching(/^all \d+ are applied/) });
  });
  test('a user without the right, and one that is not there', async () => {
    const client = new Client(supabase.connection);
    await client.connect();
    await client.query("create role reader login password 'canary-pass'");
    onTestFinished(() => client.end());
    const reader = await database(
      urlOf(supabase, { user: 'reader', password: 'canary-pass' }),
      MIGRATIONS,
      signal(),
    );
    expect(reader.right).toMatchObject({ status: 'wrong', says: 'reader may not change the schema' });
    const wrong = await database(urlOf(supabase, { password: 'canary-wrong' }), MIGRATIONS, signal());
    expect(wrong.right).toEqual({
      status: 'wrong',
      says: `127.0.0.1:${supabase.connection.port} does not take the user or password`,
      mend: 'pulumi config set --secret supabaseDbUrl',
    });
    expect(wrong.migrations).toBeUndefined();
  });
  test('a new project takes the key and has everything before it', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'mobvibe-doctor-'));
    onTestFinished(() => rm(empty, { recursive: true }));
    const bare = await startProject({ migrationsDir: empty });
    onTestFinished(() => bare.close());
    const fresh = bare.supabase;
    const seen = await supabaseProject(fresh.url, fresh.secretKey, signal());
    expect(seen).toEqual(ok(`${fresh.url} takes the key; our functions are not there yet`));
    const client = new Client(fresh.connection);
    await client.connect();
    await client.query('drop schema supabase_migrations cascade');
    await client.end();
    const { right, migrations } = await database(urlOf(fresh), MIGRATIONS, signal());
    expect(right.status).toBe('ok');
    expect(migrations).toMatchObject({
      status: 'warning',
      says: expect.stringMatching(/are not applied yet/),
      mend: 'pulumi up',
    });
  });
  test('a database that is not there', async () => {
    const { port } = supabase.connection;
    const { right } = await database(urlOf(supabase, { database: 'nowhere' }), MIGRATIONS, signal());
    expect(right.says).toBe(`127.0.0.1:${port} refuses: database "nowhere" does not exist`);
  });
  test('no database at that address', async () => {
    const { right } = await database('postgresql://u:canary@127.0.0.1:1/d', MIGRATIONS, signal());
    expect(right).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/^127.0.0.1:1 can't be reached/),
    });
    expect(JSON.stringify(right)).not.toContain('canary');
  });
  test.each([
    ['postgres', /is not postgresql:/],
    ['https://u:canary@h/d', /is not postgresql:/],
    ['postgresql://u:canary@pooler.example:6543/d', /transaction mode/],
  ])('%s is refused before anything is sent', async (url, words) => {
    const { right } = await database(url, MIGRATIONS, signal());
    expect(right).toMatchObject({ status: 'wrong', says: expect.stringMatching(words) });
    expect(JSON.stringify(right)).not.toContain('canary');
  });
  test('the direct address without IPv6 has a hint', () => {
    const error = Object.assign(new Error('connect ENETUNREACH'), { code: 'ENETUNREACH' });
    expect(judgeFailure(error, 'db.abc.supabase.co:5432').says).toContain('session mode has IPv4');
    expect(judgeFailure(error, '10.0.0.1:5432').says).not.toContain('session mode');
  });
  test('migrations of a newer project', () => {
    expect(judgeMigrations(['1', '2'], ['1', '2', '3'])).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/^the database has 3/),
      mend: 'git pull',
    });
    expect(judgeMigrations(['1', '2'], ['1']).says).toBe('1 of 2 are not applied yet, the first 2');
  });
});
