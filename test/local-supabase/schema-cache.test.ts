import { Client } from 'pg';
import { afterEach, expect, test, vi } from 'vitest';
import { connectDatabase, rows, value } from '../../controller/store/database.ts';
import type { CacheDelays } from '../../local/supabase/gateway/rest/schema-cache.ts';
import { type Project, startProject } from './project.ts';

let project: Project;
afterEach(() => project.close());

const FOR_EVER = 3_600_000;

async function start(schemaCache: CacheDelays): Promise<void> {
  project = await startProject({ schemaCache });
}

/** As a migration does, past the API. */
async function migrate(...statements: string[]): Promise<void> {
  const admin = new Client(project.supabase.connection);
  await admin.connect();
  for (const statement of statements) await admin.query(statement);
  await admin.end();
}

const LATER = [
  `begin`,
  `create function public.made_later() returns int language sql as 'select 7'`,
  'grant execute on function public.made_later() to service_role',
  'create table public.later (id int primary key)',
  'grant select on public.later to service_role',
  'commit',
];

test('what was made after the last look is unknown; what was there is served', async () => {
  await start({ staleMs: FOR_EVER });
  await migrate(...LATER);
  expect(await project.service.rpc('made_later')).toMatchObject({ status: 404, error: { code: 'PGRST202' } });
  expect(await project.service.from('later').select()).toMatchObject({
    status: 404,
    error: { code: 'PGRST205' },
  });
  expect((await project.service.rpc('add', { a: 1, b: 2 })).data).toBe(3);
});

test('while the schema is read nothing is served but files', async () => {
  await start({ staleMs: 0, loadingMs: FOR_EVER });
  await migrate(...LATER);
  const { service } = project;
  await vi.waitFor(async () => {
    const answer = await service.rpc('add', { a: 1, b: 2 });
    expect(answer).toMatchObject({ status: 503, error: { code: 'PGRST002' } });
  });
  expect((await service.storage.listBuckets()).error).toBeNull();
});

test('a change is noticed, as well as one that is told of by hand, and after a connection that broke', async () => {
  await start({ staleMs: 1, loadingMs: 1 });
  const { service } = project;
  await migrate(...LATER);
  await vi.waitFor(async () => expect((await service.rpc('made_later')).data).toBe(7));
  await migrate('drop function public.made_later()');
  await vi.waitFor(async () => expect((await service.rpc('made_later')).error?.code).toBe('PGRST202'));

  await migrate(
    'alter event trigger pgrst_ddl_watch disable',
    `create function public.by_hand() returns int language sql as 'select 8'`,
    'grant execute on function public.by_hand() to service_role',
    `notify pgrst, 'reload schema'`,
  );
  await vi.waitFor(async () => expect((await service.rpc('by_hand')).data).toBe(8));
  await migrate(
    `create function public.unheard() returns int language sql as 'select 9'`,
    'grant execute on function public.unheard() to service_role',
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gateway schema cache'`,
  );
  await vi.waitFor(async () => expect((await service.rpc('unheard')).data).toBe(9), { timeout: 10_000 });
});

test('a controller that meets a migration waits for it to be known', async () => {
  await start({ staleMs: 300, loadingMs: 300 });
  const { url, secretKey } = project.supabase;
  const database = connectDatabase(url, secretKey, 5_000);
  await migrate(...LATER);
  const known = value('made_later', database.rpc('made_later'));
  await expect(Promise.all([known, rows('later', database.from('later').select())])).resolves.toEqual([
    7,
    [],
  ]);
});
