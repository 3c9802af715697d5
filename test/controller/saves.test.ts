import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { workspaceStorage } from '../../controller/files/storage.ts';
import { connectDatabase } from '../../controller/store/index.ts';
import { World } from './world.ts';

const MIB = 1024 * 1024;
const AWAY = { code: 'storage_unavailable', detail: 'storage is away' };

let world: World;
beforeAll(async () => {
  // Below what a pack's object is by itself, and nothing tells of it: Supabase's own limit of a project.
  world = await World.start({ maxObjectBytes: 3 * MIB });
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

async function open(id: string, env: Record<string, string> = {}) {
  const app = await world.app();
  // Saves by itself hardly ever: tests that are about that say so.
  const controller = await world.controller(app, { env: { MOBVIBE_SAVE_INTERVAL_MS: '3600000', ...env } });
  await controller.manager.createSandbox({ sessionId: id });
  const running = world.running(`s-${id}-1`);
  const sandbox = (await world.store.findLiveSandbox(id))!;
  running.inside.files.set('work.txt', `work of ${id}`);
  return { app, controller, ...running, sandbox, files: controller.files };
}

async function metric(url: string, line: RegExp): Promise<string | undefined> {
  return line.exec(await (await fetch(`${url}/metrics`)).text())?.[0];
}

/** As if somebody had deleted it by hand, though its objects come back with it. */
const renameBucket = (from: string, to: string) =>
  world.sql(`do $$ begin
    set local session_replication_role = replica;
    update storage.buckets set id = '${to}', name = '${to}' where id = '${from}';
  end $$`);

const kinds = async (id: string) =>
  (await world.store.listSessionEvents(id, { limit: 100 }))
    .map(({ kind }) => kind)
    .filter((kind) => kind.startsWith('save.') || kind === 'manifest.committed');

describe('a save', () => {
  it('is packed smaller when storage takes no larger object, and never so large again', async () => {
    const { files, sandbox, inside } = await open('limit');
    inside.files.set('large.txt', 'x'.repeat(5 * MIB));
    expect(await files.save(sandbox)).toMatchObject({ version: 1, changed: true });
    const sizes = inside.packed.map(({ object_bytes }) => object_bytes! / MIB);
    expect(sizes[0]).toBe(32);
    expect(sizes.at(-1)).toBeLessThanOrEqual(3);
    expect((await world.store.findManifest('limit', 1))!.packs.length).toBeGreaterThan(1);
    inside.files.set('more.txt', 'y'.repeat(5 * MIB));
    const tries = sizes.length;
    expect(await files.save(sandbox)).toMatchObject({ version: 2 });
    expect(inside.packed).toHaveLength(tries + 1);
    expect(await kinds('limit')).toEqual(['manifest.committed', 'manifest.committed']);
  });

  it('goes by the limit of the bucket where there is one', async () => {
    await world.sql('update storage.buckets set file_size_limit = $1', [2 * MIB]);
    try {
      const { files, sandbox, inside } = await open('bucket');
      inside.files.set('large.txt', 'x'.repeat(5 * MIB));
      await files.save(sandbox);
      expect(inside.packed.map(({ object_bytes }) => object_bytes)).toEqual([2 * MIB]);
    } finally {
      await world.sql('update storage.buckets set file_size_limit = null');
    }
  });

  it('that storage refuses for good names the setting, is in the row at once, and is over as soon as one succeeds', async () => {
    const { files, sandbox, controller } = await open('refused');
    await renameBucket('workspaces', 'elsewhere');
    try {
      await expect(files.save(sandbox)).rejects.toMatchObject({
        code: 'storage_refused',
        detail: expect.stringContaining('supabase/migrations'),
      });
    } finally {
      await renameBucket('elsewhere', 'workspaces');
    }
    expect((await world.store.getSession('refused')).save).toMatchObject({
      state: 'failing',
      code: 'storage_refused',
      detail: expect.stringContaining('supabase/migrations'),
    });
    expect(await metric(controller.url, /^mobvibe_sandboxes_failing_to_save .*$/m)).toMatch(/ 1$/);
    expect(await metric(controller.url, /^mobvibe_unsaved_seconds .*$/m)).not.toMatch(/ 0$/);
    expect(await files.save(sandbox)).toMatchObject({ version: 1 });
    expect((await world.store.getSession('refused')).save.state).toBe('ok');
    expect(await kinds('refused')).toEqual(['save.failing', 'manifest.committed', 'save.recovered']);
    expect(await metric(controller.url, /^mobvibe_sandboxes_failing_to_save .*$/m)).toMatch(/ 0$/);
    const counts = /^mobvibe_saves_total\{outcome="storage_refused"\} 1$/m;
    expect(await metric(controller.url, counts)).toBeDefined();
    expect(await metric(controller.url, /^mobvibe_saves_total\{outcome="saved"\} 1$/m)).toBeDefined();
  });

  it('that finds nothing to do ends the failing, too, and events are one for each turn', async () => {
    const { files, sandbox, inside } = await open('again');
    await files.save(sandbox);
    inside.failures.push({ path: '/workspace/pack', times: 3, status: 503, error: AWAY });
    for (let n = 0; n < 3; n++) await expect(files.save(sandbox)).rejects.toMatchObject(AWAY);
    expect(await world.store.getSession('again')).toMatchObject({
      save: { state: 'failing', code: 'storage_unavailable' },
      save_attempts: 3,
    });
    expect(await files.save(sandbox)).toMatchObject({ changed: false });
    expect(await kinds('again')).toEqual(['manifest.committed', 'save.failing', 'save.recovered']);
  });

  it('sends only what storage does not have, with nothing to send nothing', async () => {
    const { files, sandbox, inside } = await open('once');
    inside.files.set('large.txt', 'x'.repeat(4 * MIB));
    await files.save(sandbox);
    const sent = inside.uploaded.length;
    // As if its commit had been lost: all objects are there, the version is not.
    const forget = async () => {
      await world.sql(`update coding_sessions set head = 0 where id = 'once'`);
      await world.sql(`delete from manifests where session_id = 'once'`);
    };
    await forget();
    expect(await files.save(sandbox)).toMatchObject({ version: 1 });
    expect(inside.uploaded).toHaveLength(sent);
    // One of them is gone.
    await forget();
    await world.sql(`delete from storage.objects where name = 's/once/p/' || $1`, [inside.uploaded.at(-1)]);
    expect(await files.save(sandbox)).toMatchObject({ version: 1 });
    expect(inside.uploaded.slice(sent)).toEqual([inside.uploaded[sent - 1]]);
  });

  it('that is broken off is no failure of the session', async () => {
    const { files, sandbox, inside } = await open('broken-off');
    inside.gates.set('/workspace/upload', new Promise(() => {}));
    const enough = new AbortController();
    const saved = files.save(sandbox, { signal: enough.signal });
    const ended = expect(saved).rejects.toThrow('enough');
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    enough.abort(new Error('enough'));
    await ended;
    inside.gates.clear();
    expect((await world.store.getSession('broken-off')).save.state).toBe('ok');
    expect(await files.save(sandbox, { final: true })).toMatchObject({ version: 1 });
    expect(inside.packed.map(({ pause_ms }) => pause_ms)).toEqual([5_000, 0]);
  });

  it('tells what is not saved', async () => {
    const { files, sandbox } = await open('unsaved');
    expect(await files.unsaved(sandbox)).toMatchObject({ base: 0, files: 1, paths: ['work.txt'] });
  });
});

describe('saves by themselves', () => {
  const EVERY = { MOBVIBE_SAVE_INTERVAL_MS: '1000' };

  it('wait for no other sandbox, however many are slow', async () => {
    const { controller } = await open('slow-1', EVERY);
    const insides = [
      'slow-1',
      'slow-2',
      'slow-3',
      'slow-4',
      'slow-5',
      'slow-6',
      'slow-7',
      'slow-8',
      'slow-9',
    ].map(async (id) => {
      if (id !== 'slow-1') await controller.manager.createSandbox({ sessionId: id });
      const { inside } = world.running(`s-${id}-1`);
      inside.gates.set('/workspace/upload', new Promise(() => {}));
      inside.files.set('work.txt', 'work');
      return inside;
    });
    const slow = await Promise.all(insides);
    await world.until(() => slow.every(({ requests }) => requests.includes('POST /workspace/upload')));
    await controller.manager.createSandbox({ sessionId: 'quick' });
    world.running('s-quick-1').inside.files.set('work.txt', 'quick');
    await world.until(async () => (await world.store.getSession('quick')).head === 1);
    await world.close(controller);
  });

  it('are broken off by a stop, which makes its own', async () => {
    const app = await world.app();
    const held = Promise.withResolvers<void>();
    world.onBoot = (_name, inside) => inside.gates.set('/workspace/upload', held.promise);
    // Saves once, at once; the next look at what is open is half an hour away.
    const controller = await world.controller(app, {
      env: { MOBVIBE_SAVE_INTERVAL_MS: '3600000' },
      random: () => 0,
    });
    await controller.manager.createSandbox({ sessionId: 'stopped' });
    const { inside } = world.running('s-stopped-1');
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    const stopped = controller.manager.destroySandbox('stopped');
    // The second pack is the stop's: it does not wait for an upload that was begun before.
    await world.until(() => inside.packed.some(({ pause_ms }) => pause_ms === 0));
    inside.gates.clear();
    held.resolve();
    expect(await stopped).toMatchObject({ status: 'stopped', head: 1, save: { state: 'ok' } });
  });

  it('do not hold up a shutdown', async () => {
    const { controller, inside } = await open('shut', { ...EVERY, MOBVIBE_SHUTDOWN_TIMEOUT_MS: '50' });
    inside.gates.set('/workspace/upload', new Promise(() => {}));
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    await world.close(controller);
    expect((await world.store.getSession('shut')).save.state).toBe('ok');
    inside.gates.clear();
  });

  it('go on after a failure, and at a new controller', async () => {
    const { app, controller, inside } = await open('goes-on', EVERY);
    inside.failures.push({ path: '/workspace/pack', times: 1, status: 503, error: AWAY });
    await world.until(async () => (await world.store.getSession('goes-on')).head === 1);
    expect(await kinds('goes-on')).toEqual(['save.failing', 'manifest.committed', 'save.recovered']);
    await world.close(controller);
    inside.files.set('more.txt', 'more');
    await world.controller(app, { env: EVERY });
    await world.until(async () => (await world.store.getSession('goes-on')).head === 2);
  });
});

describe('a damaged version', () => {
  /** Two versions, of which the newest lacks an object, and no sandbox. */
  async function twoVersions(id: string, env: Record<string, string> = {}) {
    const opened = await open(id, env);
    await opened.files.save(opened.sandbox);
    opened.inside.files.set('second.txt', 'second');
    await opened.files.save(opened.sandbox);
    await opened.controller.manager.destroySandbox(id);
    const { packs } = (await world.store.findManifest(id, 2))!;
    return { ...opened, key: `s/${id}/p/${packs[0]!.sha256}` };
  }

  it('is told at once, with the object at fault and the versions that are whole; another can be opened', async () => {
    const { controller, key } = await twoVersions('lost');
    await world.sql('delete from storage.objects where name = $1', [key]);
    await expect(controller.lifecycle.startSandbox('lost')).rejects.toMatchObject({
      detail: expect.stringMatching(new RegExp(`Version 2 .*${key}.*missing.*Whole by their sizes.*: 1\\.`)),
    });
    await world.until(async () => (await world.store.getSession('lost')).error?.code === 'version_damaged');
    await controller.lifecycle.startSandbox('lost', { version: 1 });
    const { inside } = world.running('s-lost-3');
    expect([...inside.files]).toEqual([['work.txt', 'work of lost']]);
  });

  it('is left out for the newest that is whole where the stack says so, and what it lacks is uploaded again', async () => {
    const { controller, key, files } = await twoVersions('taken', { MOBVIBE_ON_DAMAGE: 'newest_whole' });
    await world.sql('delete from storage.objects where name = $1', [key]);
    await controller.lifecycle.startSandbox('taken');
    const { inside } = world.running('s-taken-2');
    expect([...inside.files]).toEqual([['work.txt', 'work of taken']]);
    // The very same as in the version that is damaged.
    inside.files.set('second.txt', 'second');
    expect(await files.save((await world.store.findLiveSandbox('taken'))!)).toMatchObject({ version: 3 });
    await controller.manager.destroySandbox('taken');
    await controller.lifecycle.startSandbox('taken');
    expect(world.running('s-taken-3').inside.files.get('second.txt')).toBe('second');
  });

  it('with other bytes than it should have is found by the agent', async () => {
    const { controller, key } = await twoVersions('spoilt');
    const database = connectDatabase(world.supabase.url, world.supabase.secretKey, 10_000);
    const storage = workspaceStorage(database);
    const body = 'x'.repeat((await storage.size(key))!);
    expect((await fetch(await storage.signUpload(key), { method: 'PUT', body })).ok).toBe(true);
    await expect(controller.lifecycle.startSandbox('spoilt')).rejects.toMatchObject({
      detail: expect.stringMatching(/wrong hash.*: 1\./),
    });
  });

  it('is never left out for another where the caller has named it', async () => {
    const { controller, key } = await twoVersions('named', { MOBVIBE_ON_DAMAGE: 'newest_whole' });
    await world.sql('delete from storage.objects where name = $1', [key]);
    await expect(controller.lifecycle.startSandbox('named', { version: 2 })).rejects.toMatchObject({
      detail: expect.stringContaining(key),
    });
  });
});
