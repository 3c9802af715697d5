import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AgentHub } from '../../controller/agents/hub.ts';
import { AgentLink } from '../../controller/agents/link.ts';
import { workspaceStorage } from '../../controller/files/storage.ts';
import { WorkspaceFiles } from '../../controller/files/workspace.ts';
import { connectDatabase, createStore, type Database, type Store } from '../../controller/store/index.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { Rig } from '../agent/rig.ts';

const MIB = 1024 * 1024;

let dir: string;
let supabase: LocalSupabase;
let database: Database;
let store: Store;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'save-agent-'));
  await chmod(dir, 0o755);
  supabase = await startLocalSupabase({
    stateDir: join(dir, 'supabase'),
    throwAway: true,
    maxObjectBytes: 2 * MIB,
  });
  database = connectDatabase(supabase.url, supabase.secretKey, 10_000);
  store = createStore(database);
});
afterAll(async () => {
  await supabase?.close();
  await rm(dir, { recursive: true, force: true });
});

/** A session whose sandbox is this agent. */
async function openFor(session: string, rig: Rig): Promise<{ files: WorkspaceFiles; sandbox: SandboxRow }> {
  const settings = { region: 'sjc', cpu_kind: 'shared', cpus: 1, memory_mb: 512 } as const;
  const { sandbox } = await store.openSession({ id: session, settings, app: 'cell', actor: 'test' });
  const link = new AgentLink(sandbox.name, 1, await rig.connected(), { everyMs: 5_000, answerMs: 10_000 });
  const files = new WorkspaceFiles({
    store,
    storage: workspaceStorage(database),
    hub: { waitFor: async () => link } as unknown as AgentHub,
    config: { savePauseMs: 0, onDamage: 'refuse' },
    log: pino({ level: 'silent' }),
    clock: Date.now,
  });
  return { files, sandbox };
}

it('a real agent saves a file larger than storage takes at once, and another brings it back', async () => {
  // Random bytes: nothing makes them smaller.
  const large = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)));
  const content = Buffer.concat(
    Array.from({ length: 80 }, (_, n) => Buffer.from(large.map((byte) => byte ^ n))),
  );
  await using rig = await Rig.start();
  const { files, sandbox } = await openFor('real', rig);
  await files.restore(sandbox);
  await writeFile(join(rig.workspace, 'large.bin'), content);
  expect(await files.save(sandbox)).toMatchObject({ version: 1, changed: true, files: 1 });
  const { packs } = (await store.findManifest('real', 1))!;
  for (const { bytes } of packs) expect(bytes).toBeLessThanOrEqual(2 * MIB);
  expect(await files.save(sandbox)).toMatchObject({ version: 1, changed: false });

  // What it was before, after something else: storage has all objects but the manifest.
  await writeFile(join(rig.workspace, 'small.txt'), 'small');
  await files.save(sandbox);
  await rm(join(rig.workspace, 'small.txt'));
  expect(await files.save(sandbox)).toMatchObject({ version: 3, files: 1 });

  await using other = await Rig.start();
  const again = await openFor('real', other);
  expect(await again.files.restore(sandbox)).toMatchObject({ version: 3, bytes: content.length });
  expect((await readFile(join(other.workspace, 'large.bin'))).equals(content)).toBe(true);
  expect(await again.files.unsaved(sandbox)).toMatchObject({ known: true, files: 0 });
  await writeFile(join(other.workspace, 'new.txt'), 'new');
  expect(await again.files.unsaved(sandbox)).toMatchObject({ known: true, files: 1, paths: ['new.txt'] });
  const { body } = await again.files.rescue(sandbox);
  const tar = Buffer.concat(await body.toArray());
  expect(tar.includes('new.txt')).toBe(true);
}, 180_000);

it('a version whose object is damaged is told by a real agent as such', async () => {
  await using rig = await Rig.start();
  const { files, sandbox } = await openFor('damage', rig);
  await files.restore(sandbox);
  await writeFile(join(rig.workspace, 'a.txt'), 'one');
  await files.save(sandbox);
  await writeFile(join(rig.workspace, 'a.txt'), 'two');
  await files.save(sandbox);
  const { packs } = (await store.findManifest('damage', 2))!;
  const key = `s/damage/p/${packs[0]!.sha256}`;
  const storage = workspaceStorage(database);
  const spoil = async (bytes: number) => {
    const put = await fetch(await storage.signUpload(key), { method: 'PUT', body: 'x'.repeat(bytes) });
    expect(put.ok).toBe(true);
  };
  const { bytes } = packs[0]!;
  for (const [wrong, how] of [
    [bytes, 'wrong hash'],
    [bytes - 1, 'truncated'],
  ] as const) {
    await spoil(wrong);
    await using other = await Rig.start();
    const again = await openFor('damage', other);
    await expect(again.files.restore(sandbox)).rejects.toMatchObject({
      code: 'version_damaged',
      detail: expect.stringMatching(new RegExp(`${key}.*${how}.*: 1\\.`)),
    });
    expect(await again.files.restore({ ...sandbox, restore_version: 1 })).toMatchObject({ version: 1 });
    expect(await readFile(join(other.workspace, 'a.txt'), 'utf8')).toBe('one');
  }
}, 180_000);
