import { Client, Pool } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bootstrap } from '../../local/supabase/postgres/bootstrap.ts';
import { applyMigrations } from '../../local/supabase/postgres/migrate.ts';
import { callsOn, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase, MIGRATIONS } from './database.ts';

const API_ROLES = ['anon', 'authenticated', 'service_role'] as const;
const TABLES = [
  ...['coding_sessions', 'sandboxes', 'manifests', 'jobs', 'job_output', 'session_events'],
  ...['cells', 'cell_events', 'controllers', 'session_execs'],
];
const FORBIDDEN = { code: '42501' };

let database: FreshDatabase;
beforeAll(async () => {
  database = await freshDatabase();
  const db = callsOn(database.pool);
  const { fence } = await db.readySession('held');
  await db.commit('held', fence, 0, SHA('a'));
  await db.enqueue('j1', 'held');
  const [job] = await db.claim('w1');
  await db.append(job!, 0, 'output');
  await db.renew('http://one', ['cell']);
  await db.register('held', 'e1');
});
afterAll(() => database.close());

async function as(role: string, sql: string, target = database): Promise<unknown[]> {
  const client = await target.pool.connect();
  try {
    await client.query('begin');
    await client.query(`set local role ${role}`);
    return (await client.query(sql)).rows;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

const rows = async (sql: string, target = database) => (await target.pool.query(sql)).rows;

describe.each(TABLES)('%s', (table) => {
  test('is read by service_role and changed by nobody', async () => {
    expect(await as('service_role', `select * from ${table}`)).not.toEqual([]);
    for (const role of API_ROLES) {
      const [column] = await rows(
        `select attname as name from pg_attribute where attrelid = '${table}'::regclass and attnum > 0
         and attidentity = '' order by attnum limit 1`,
      );
      for (const sql of [
        `insert into ${table} default values`,
        `update ${table} set ${column.name} = ${column.name}`,
        `delete from ${table}`,
        `truncate ${table} cascade`,
        `select * from ${table} for update`,
      ]) {
        await expect(as(role, sql), `${role}: ${sql}`).rejects.toMatchObject(FORBIDDEN);
      }
    }
  });

  test('is closed to anon and authenticated', async () => {
    for (const role of ['anon', 'authenticated', 'authenticator']) {
      await expect(as(role, `select * from ${table}`), role).rejects.toMatchObject(FORBIDDEN);
    }
  });
});

test('schema mobvibe, with the API keys and the clock, is closed to all roles of the API', async () => {
  for (const role of API_ROLES) {
    for (const sql of [
      'select * from mobvibe.api_keys',
      'select mobvibe.now()',
      `select nextval('mobvibe.fence')`,
    ]) {
      await expect(as(role, sql), `${role}: ${sql}`).rejects.toMatchObject(FORBIDDEN);
    }
  }
});

test('API roles cannot make anything of their own in public', async () => {
  for (const role of API_ROLES) {
    await expect(as(role, 'create table public.mine (id int)')).rejects.toMatchObject(FORBIDDEN);
  }
});

/** The rules that hold for every function and table of ours, whichever are added. */
async function breaches(target: FreshDatabase): Promise<unknown[]> {
  return rows(
    `
    with ours as (
      select p.oid, p.oid::regprocedure::text as name, n.nspname, p.prosecdef, p.proconfig,
        coalesce(p.proacl, acldefault('f', p.proowner)) as acl, p.pronamespace, p.proname
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('public', 'mobvibe'))
    select 'search_path is not empty' as breach, name from ours
      where not coalesce(proconfig, '{}') @> array['search_path=""']
    union all
    select 'granted to ' || case a.grantee when 0 then 'public' else a.grantee::regrole::text end, name
      from ours, aclexplode(acl) a
      where a.grantee in (0, 'anon'::regrole, 'authenticated'::regrole)
        or (a.grantee = 'service_role'::regrole and nspname = 'mobvibe')
    union all
    select 'not granted to service_role', name from ours
      where nspname = 'public' and not has_function_privilege('service_role', oid, 'execute')
    union all
    select 'not security definer', name from ours where nspname = 'public' and not prosecdef
    union all
    select 'security definer without need', name from ours where nspname = 'mobvibe' and prosecdef
    union all
    select 'overloaded', max(name) from ours group by pronamespace, proname having count(*) > 1
    union all
    select 'no row-level security', c.oid::regclass::text from pg_class c
      where c.relkind in ('r', 'p') and c.relnamespace in ('public'::regnamespace, 'mobvibe'::regnamespace)
        and not c.relrowsecurity
    union all
    select a.privilege_type || ' granted to ' || case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
        c.oid::regclass::text
      from pg_class c, aclexplode(c.relacl) a
      where c.relnamespace in ('public'::regnamespace, 'mobvibe'::regnamespace) and a.grantee <> c.relowner
        and not (a.grantee = 'service_role'::regrole and a.privilege_type = 'SELECT' and c.relkind = 'r'
          and c.relnamespace = 'public'::regnamespace)
    union all
    select 'has a policy', tablename from pg_policies where schemaname in ('public', 'mobvibe')`,
    target,
  );
}

test('every function pins its search_path and is granted to service_role alone; every table has row-level security', async () => {
  expect(await breaches(database)).toEqual([]);
  const functions = await rows(
    `select proname::text as name from pg_proc where pronamespace = 'public'::regnamespace`,
  );
  expect(functions.map(({ name }) => name).toSorted()).toEqual([
    ...['api_key_add', 'api_key_check', 'api_key_revoke'],
    ...['cell_forget', 'cell_hold', 'cell_release', 'cells_declare', 'cells_renew', 'controller_leave'],
    ...['exec_register', 'exec_withdraw', 'execs_ended', 'execs_register'],
    ...[
      'job_append_output',
      'job_cancel',
      'job_enqueue',
      'job_finish',
      'job_heartbeat',
      'job_refused',
      'job_release',
      'job_started',
    ],
    ...['jobs_claim', 'manifest_commit', 'purge'],
    ...[
      'sandbox_agent_restarted',
      'sandbox_created',
      'sandbox_destroying',
      'sandbox_discard',
      'sandbox_gone',
      'sandbox_ready',
      'sandbox_sealing',
      'sandbox_stop',
      'sandbox_unresponsive',
    ],
    ...['save_done', 'save_failed', 'session_open', 'session_release', 'session_stop', 'session_touch'],
  ]);
});

test('the bucket for workspaces is private', async () => {
  expect(await rows(`select id, public from storage.buckets`)).toEqual([{ id: 'workspaces', public: false }]);
});

test('on an older hosted project, whose owner is no superuser and whose defaults grant everything, the same holds', async () => {
  const hosted = await freshDatabase();
  try {
    const { pool, connection } = hosted;
    const database = `hosted_${connection.database}`;
    await pool.query(`create database ${database}`);
    const bare = { ...connection, database };
    await bootstrap(bare);
    const admin = new Client(bare);
    await admin.connect();
    await admin.query(`
      create role owner_of_project login nosuperuser createrole bypassrls password 'for this test';
      grant anon, authenticated, service_role to owner_of_project;
      alter database ${database} owner to owner_of_project;
      grant all on schema public to owner_of_project;
      grant usage on schema storage to owner_of_project;
      grant all on all tables in schema storage to owner_of_project;
      alter default privileges for role owner_of_project in schema public
        grant all on tables to anon, authenticated, service_role;
      alter default privileges for role owner_of_project in schema public
        grant all on sequences to anon, authenticated, service_role;
      alter default privileges for role owner_of_project in schema public
        grant all on functions to anon, authenticated, service_role`);
    await admin.end();

    const owner = { ...bare, user: 'owner_of_project', password: 'for this test' };
    await applyMigrations(owner, MIGRATIONS);
    const target = { ...hosted, pool: new Pool(bare) };
    // A connection may still be closing when the database is dropped.
    target.pool.on('error', () => {});
    expect(await breaches(target)).toEqual([]);
    const db = callsOn(target.pool);
    const sandbox = await db.readySession('on-hosted');
    expect(await db.commit('on-hosted', sandbox.fence, 0, SHA('a'))).toMatchObject({ version: 1 });
    await expect(as('anon', 'select * from coding_sessions', target)).rejects.toMatchObject(FORBIDDEN);
    await target.pool.end();
    await pool.query(`drop database ${database} with (force)`);
    await pool.query('drop role owner_of_project');
  } finally {
    await hosted.close();
  }
});
