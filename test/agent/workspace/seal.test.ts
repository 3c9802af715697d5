import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Storage } from '../storage.ts';
import { long } from './long.ts';
import type { Packed } from './packing.ts';
import { answerOf, Routed } from './routed.ts';

const WRITERS = 12;

test('what was answered before the seal is in the last save, all else was told that the session stops', async () => {
  await using routed = await Routed.start();
  await using storage = await Storage.start();
  /** What must be there, and what was refused. */
  const there = new Map<string, boolean>();
  const refused: string[] = [];
  let stopped = false;
  const change = async (method: string, path: string, body: unknown, then: () => void): Promise<void> => {
    const answer = await routed.request(method, path, body);
    if (answer.status < 300) return then();
    expect([answer.status, answer.json().code]).toEqual([409, 'session_stopping']);
    refused.push(path);
  };
  const storm = Array.from({ length: WRITERS }, async (_, writer) => {
    for (let n = 0; !stopped; n += 1) {
      const name = `w${writer}/d${n}/f`;
      await change('PUT', `/files?path=${name}`, `${writer} ${n}`, () => there.set(name, true));
      if (there.has(name)) {
        await change('POST', '/files/move', { from: name, to: `w${writer}/moved${n}` }, () => {
          there.set(name, false).set(`w${writer}/moved${n}`, true);
        });
        await change('DELETE', `/files?path=w${writer}/d${n}&recursive=1`, undefined, () => {
          there.set(`w${writer}/d${n}`, false).delete(name);
        });
      }
      await change('POST', '/files/mkdir', { path: `w${writer}/m${n}` }, () => {
        there.set(`w${writer}/m${n}`, true);
      });
      await change('POST', '/files/symlink', { path: `w${writer}/l${n}`, target: 'x' }, () => {
        there.set(`w${writer}/l${n}`, true);
      });
    }
  });
  await expect.poll(() => there.size).toBeGreaterThan(100);
  await routed.gate.close();
  const acknowledged = new Map(there);
  // The storm goes on while the last save is made, and after it.
  const packed: Packed = (await long(routed, '/workspace/pack', { base: 0, pause_ms: 0 })).result;
  const { length } = refused;
  await expect.poll(() => refused.length).toBeGreaterThan(length + 5 * WRITERS);
  stopped = true;
  await Promise.all(storm);
  expect(packed.atomic).toBe(true);
  // An answer may still have been on its way to the client when the gate closed; what it told is there all the same.
  expect(there.size).toBeGreaterThanOrEqual(acknowledged.size);

  const objects = [packed.manifest, ...packed.packs].map(({ sha256 }) => sha256);
  const urls = Object.fromEntries(objects.map((sha256) => [sha256, storage.url(sha256)]));
  expect((await long(routed, '/workspace/upload', { pack_id: packed.pack_id, urls })).error).toBeUndefined();
  await using later = await Routed.start();
  const withUrl = <T extends { sha256: string }>(object: T) => ({ ...object, url: urls[object.sha256] });
  const request = { version: 1, manifest: withUrl(packed.manifest), packs: packed.packs.map(withUrl) };
  expect((await long(later, '/workspace/restore', request)).error).toBeUndefined();
  const restored = new Set(readdirSync(later.tree, { recursive: true, encoding: 'utf8' }));
  for (const [path, is] of there) expect([path, restored.has(path)]).toEqual([path, is]);
});

test('an upload whose body is still coming fails with the seal, which does not wait for it, and leaves nothing', async () => {
  await using routed = await Routed.start();
  const upload = routed.open('PUT', '/files?path=slow');
  upload.write('a part');
  const answer = answerOf(upload);
  await expect.poll(() => readdirSync(routed.tree).length).toBe(1);
  await routed.gate.close();
  expect([(await answer).status, (await answer).json().code]).toEqual([409, 'session_stopping']);
  await expect.poll(() => readdirSync(routed.tree)).toEqual([]);
});

test('a body that comes while all is held is not in the way, and is put in place afterwards', async () => {
  await using routed = await Routed.start();
  const upload = routed.open('PUT', '/files?path=slow');
  upload.write('a part');
  const answer = answerOf(upload);
  await expect.poll(() => readdirSync(routed.tree).length).toBe(1);
  await routed.gate.hold(async () => {
    upload.end(' and the rest');
    // It has got its mode, which is the last thing before it is put in place; a whole answer later it still isn't.
    const mode = () => readdirSync(routed.tree).map((name) => statSync(join(routed.tree, name)).mode & 0o777);
    await expect.poll(mode).toEqual([0o644]);
    await routed.request('GET', '/files/list?path=');
    expect(existsSync(join(routed.tree, 'slow'))).toBe(false);
  });
  expect((await answer).json()).toMatchObject({ path: 'slow', size: 19 });
});

test('nothing is restored once sealed; reads, packs and the tar go on', async () => {
  await using routed = await Routed.start();
  expect((await routed.request('PUT', '/files?path=f', 'text')).status).toBe(200);
  await routed.gate.close();
  const refused = await routed.request('POST', '/workspace/restore', { version: 0 });
  expect([refused.status, refused.json().code]).toEqual([409, 'session_stopping']);
  expect((await routed.request('GET', '/files?path=f')).body.toString()).toBe('text');
  expect((await long(routed, '/workspace/pack', { base: 0 })).result).toMatchObject({ files: 1 });
  expect((await routed.request('GET', '/workspace/tar')).body.toString()).toContain('text');
  expect((await routed.request('POST', '/workspace/unsaved', { base: 0 })).json()).toMatchObject({
    files: 1,
  });
});
