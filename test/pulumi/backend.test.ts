import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LocalSupabase } from '../../local/supabase/server.ts';
import { missing, startWorld, type World } from './engine.ts';
import { type Previews, previewsOf } from './previews.ts';

const reason = missing('command');
const MINUTES = 60_000;
const PASSWORD = 'state-canary';

/** Pulumi's state in Supabase's own Postgres, as docs/previews.md sets it up: a role and a schema of its own. */
async function backend({ connection }: LocalSupabase): Promise<Record<string, string>> {
  await query(
    connection,
    `create role pulumi login password '${PASSWORD}'; create schema pulumi authorization pulumi`,
  );
  return {
    // The rest comes from the variables that every Postgres client knows: `pulumi whoami -v` shows the URL.
    PULUMI_BACKEND_URL: 'postgres:///?table=pulumi_state',
    PGHOST: connection.host,
    PGPORT: String(connection.port),
    PGDATABASE: connection.database,
    PGUSER: 'pulumi',
    PGPASSWORD: PASSWORD,
    PGSSLMODE: 'disable',
  };
}

async function query(connection: LocalSupabase['connection'], sql: string) {
  const client = new Client(connection);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

describe.skipIf(reason !== undefined)(
  `state in Postgres${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 4 * MINUTES },
  () => {
    let world: World;
    let previews: Previews;
    let preview: LocalSupabase;

    beforeAll(async () => {
      world = await startWorld({ backend });
      previews = await previewsOf(world);
      preview = await previews.anotherSupabase();
    }, MINUTES);
    afterAll(async () => {
      await previews?.close();
      await world?.close();
    });

    const keys = async () => {
      const rows = await query(world.supabase.connection, 'select key from pulumi.pulumi_state order by key');
      return rows.map(({ key }) => key as string);
    };
    const run = async (...args: string[]) => {
      const { code, output, answer } = await previews.run([...args, '--json'], { supabase: preview });
      expect(code, output).toBe(0);
      return JSON.parse(answer);
    };

    test('a preview is made, found, and taken away; its secrets are encrypted there', async () => {
      await run('up', '--pr', '3');
      expect(await keys()).toContain('.pulumi/stacks/mobvibe/pr-3.json');
      // A row is JSON with the file's bytes in Base64.
      const [state] = await query(
        world.supabase.connection,
        `select convert_from(decode(data->>'data', 'base64'), 'utf8') as text from pulumi.pulumi_state
         where key = '.pulumi/stacks/mobvibe/pr-3.json'`,
      );
      expect(state.text).toContain('mobvibe-pr-3-ctl');
      for (const secret of [preview.secretKey, preview.connection.password, world.token]) {
        expect(state.text.includes(secret)).toBe(false);
      }
      expect(await run('list')).toMatchObject([{ stack: 'pr-3', tags: { source: 'pr 3' } }]);
      expect(await run('destroy', '--pr', '3')).toMatchObject({ destroyed: true });
      expect((await keys()).filter((key) => key.endsWith('/pr-3.json'))).toEqual([]);
    });

    test('nobody who uses the project’s API can read it', async () => {
      const [rights] = await query(
        world.supabase.connection,
        "select has_schema_privilege('service_role', 'pulumi', 'usage') as service, has_schema_privilege('anon', 'pulumi', 'usage') as anon",
      );
      expect(rights).toEqual({ service: false, anon: false });
    });

    test('the password is in nothing that Pulumi says', async () => {
      const { output } = await world.pulumi(['whoami', '-v']);
      expect(output).toContain('Backend URL: postgres://');
      expect([output, ...world.said].join('\n').includes(PASSWORD)).toBe(false);
    });
  },
);
