import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Calls, callsOn, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { refusal } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
});
afterAll(() => database.close());

test('a commit of an earlier save that arrives after the last one changes nothing', async () => {
  const sandbox = await db.readySession('late');
  await db.commit('late', sandbox.fence, 0, SHA('1'));
  await db.stop('late');
  await db.sealing(sandbox);
  // Here the last save finds everything in version 1, and the sandbox goes.
  await db.destroying(sandbox);
  await expect(db.commit('late', sandbox.fence, 1, SHA('2'))).rejects.toMatchObject(refusal('fenced'));
  expect((await db.session('late')).head).toBe(1);
});

test('the commit of a sandbox that was lost unsealed is still taken', async () => {
  const sandbox = await db.readySession('died');
  await db.destroying(sandbox, 'machine_lost: it ended');
  await db.commit('died', sandbox.fence, 0, SHA('1'));
  expect((await db.session('died')).head).toBe(1);
});

test('a sandbox whose last save was overtaken by a commit is not destroyed, and saved again', async () => {
  const sandbox = await db.readySession('overtaken');
  await db.commit('overtaken', sandbox.fence, 0, SHA('1'));
  await db.stop('overtaken');
  await db.sealing(sandbox);
  await db.commit('overtaken', sandbox.fence, 1, SHA('2'));
  await expect(db.destroying(sandbox, 'asked', undefined, 1)).rejects.toMatchObject(refusal('save_conflict'));
  await db.commit('overtaken', sandbox.fence, 2, SHA('1'));
  expect(await db.destroying(sandbox, 'asked', undefined, 3)).toMatchObject({ state: 'destroying' });
  // Repeated, as when the first answer was lost.
  expect(await db.commit('overtaken', sandbox.fence, 2, SHA('1'))).toMatchObject({ version: 3 });
  expect(await db.destroying(sandbox, 'asked', undefined, 1)).toMatchObject({ state: 'destroying' });
});
