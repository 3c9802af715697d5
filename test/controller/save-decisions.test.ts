import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, test } from 'vitest';
import { createReadiness } from '../../controller/api/readiness.ts';
import { SaveLedger } from '../../controller/files/ledger.ts';
import { LEAST_OBJECT_BYTES, MOST_OBJECT_BYTES, ObjectSize } from '../../controller/files/object-size.ts';
import { saveRetryMs } from '../../controller/files/retry.ts';
import { FairTurns } from '../../controller/files/turns.ts';
import { storageAdvice, storageCode } from '../../controller/files/verdict.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';

describe('a save that failed is tried again', () => {
  const least = () => 0;
  const most = () => 1;

  test('ever later, up to a minute, where the failure may pass', () => {
    const windows = [1, 2, 3, 6, 7, 100].map((attempt) => saveRetryMs('storage_unavailable', attempt, most));
    expect(windows).toEqual([1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
    expect(saveRetryMs('agent_lost', 1, least)).toBe(500);
    expect(saveRetryMs('disk_full', 0, least)).toBe(500);
  });

  test('every five minutes from the first on where a person has to change something', () => {
    for (const code of ['storage_full', 'storage_refused'] as const) {
      expect([saveRetryMs(code, 1, least), saveRetryMs(code, 50, most)]).toEqual([270_000, 330_000]);
    }
  });
});

describe('what storage answers', () => {
  test.each([
    [
      'storage_full',
      'file size limit of the bucket "workspaces"',
      { status: 413, message: 'Payload too large' },
    ],
    [
      'storage_full',
      'file size limit',
      { status: 400, code: 'EntityTooLarge', message: 'The object exceeded the maximum allowed size' },
    ],
    ['storage_full', 'plan or spend cap', { status: 402, message: 'restricted: exceed_storage_size_quota' }],
    [
      'storage_refused',
      'supabase/migrations',
      { status: 404, code: 'NoSuchBucket', message: 'Bucket not found' },
    ],
    [
      'storage_refused',
      'SUPABASE_SERVICE_ROLE_KEY',
      { status: 403, message: 'new row violates row-level security' },
    ],
    [
      'storage_refused',
      'SUPABASE_SERVICE_ROLE_KEY',
      { status: 400, code: 'InvalidJWT', message: 'jwt malformed' },
    ],
    ['storage_refused', 'MIME', { status: 415, message: 'mime type x is not supported' }],
    ['storage_unavailable', 'by itself', { status: 429, message: 'exceeded the quota of requests' }],
    ['storage_unavailable', 'by itself', { status: 544, message: 'DatabaseTimeout' }],
    ['storage_unavailable', 'by itself', { status: 423, code: 'ResourceLocked', message: 'locked' }],
    ['storage_unavailable', 'by itself', { message: 'fetch failed' }],
  ])('%s: says %s (%o)', (code, advice, answer) => {
    expect(storageCode(answer)).toBe(code);
    expect(storageAdvice(answer)).toContain(advice);
  });
});

describe('the size of an object', () => {
  const mib = 1024 * 1024;

  it('is 32 MiB, or what storage says', async () => {
    let limit: number | null = null;
    let now = 0;
    const size = new ObjectSize({ sizeLimit: async () => limit }, () => now);
    expect(await size.current()).toBe(MOST_OBJECT_BYTES);
    limit = 20 * mib;
    expect(await size.current()).toBe(MOST_OBJECT_BYTES);
    now += 300_000;
    expect(await size.current()).toBe(20 * mib);
    limit = 1_000;
    now += 300_000;
    expect(await size.current()).toBe(LEAST_OBJECT_BYTES);
  });

  it('is halved when storage refuses it, below what was refused, down to 1 MiB', async () => {
    const size = new ObjectSize({ sizeLimit: async () => null }, () => 0);
    expect(size.refused(40 * mib, 32 * mib)).toBe(true);
    expect(await size.current()).toBe(16 * mib);
    expect(size.refused(3 * mib, 16 * mib)).toBe(true);
    expect(await size.current()).toBe(1.5 * mib);
    // Another save had packed for more, and learns nothing new.
    expect(size.refused(16 * mib, 16 * mib)).toBe(true);
    expect(await size.current()).toBe(1.5 * mib);
    expect(size.refused(1.5 * mib, 1.5 * mib)).toBe(true);
    expect(await size.current()).toBe(mib);
    expect(size.refused(mib, mib)).toBe(false);
  });

  it('is what was known where storage can not be asked', async () => {
    const size = new ObjectSize({ sizeLimit: () => Promise.reject(new Error('away')) }, () => 0);
    expect(await size.current()).toBe(MOST_OBJECT_BYTES);
  });
});

describe('turns', () => {
  it('are never more than so many, and go round by name', async () => {
    const turns = new FairTurns(2);
    const order: string[] = [];
    let atOnce = 0;
    let most = 0;
    const work = (name: string) => async () => {
      most = Math.max(most, ++atOnce);
      order.push(name);
      await sleep(1);
      atOnce -= 1;
    };
    const many = turns.each('many', [1, 2, 3, 4, 5, 6], () => work('many')());
    const one = turns.run('one', work('one'));
    await Promise.all([many, one]);
    expect(most).toBe(2);
    expect(order.indexOf('one')).toBeLessThan(4);
    expect(order).toHaveLength(7);
  });

  it('begin no more work for a list of which one has failed, and stay usable', async () => {
    const turns = new FairTurns(1);
    const begun: number[] = [];
    const each = turns.each('a', [1, 2, 3], async (item) => {
      begun.push(item);
      throw new Error(`no ${item}`);
    });
    await expect(each).rejects.toThrow('no 1');
    expect(begun).toEqual([1]);
    expect(await turns.each('a', [1, 2], async (item) => item * 2)).toEqual([2, 4]);
  });
});

describe('the ledger of saves', () => {
  const row = (name: string, readyAt = 1_000) =>
    ({ name, app: 'cell', ready_at: new Date(readyAt).toISOString() }) as SandboxRow;

  it('counts from the beginning of the last save that succeeded, while one fails', () => {
    const ledger = new SaveLedger();
    ledger.open(row('a'), 1_000);
    ledger.saved(row('a'), 5_000);
    expect(ledger.oldestUnsavedMs(6_000, 60_000)).toBe(0);
    ledger.failed(row('a'), 7_000);
    expect([ledger.failing, ledger.oldestUnsavedMs(9_000, 60_000)]).toEqual([1, 4_000]);
    ledger.saved(row('a'), 9_000);
    expect([ledger.failing, ledger.oldestUnsavedMs(9_500, 60_000)]).toEqual([0, 0]);
  });

  it('counts a save under way that has changes, until it is broken off', () => {
    const ledger = new SaveLedger();
    ledger.changed(row('a'), 3_000);
    expect(ledger.oldestUnsavedMs(4_000, 60_000)).toBe(3_000);
    ledger.brokenOff(row('a'));
    expect(ledger.oldestUnsavedMs(4_000, 60_000)).toBe(0);
  });

  it('counts one that nobody has saved for twice the interval, once it had the time to', () => {
    const ledger = new SaveLedger();
    // Taken over from another controller an hour after it was ready.
    ledger.open(row('a', 0), 3_600_000);
    expect(ledger.oldestUnsavedMs(3_700_000, 60_000)).toBe(0);
    expect(ledger.oldestUnsavedMs(3_730_000, 60_000)).toBe(3_730_000);
    ledger.keep((name) => name !== 'a');
    expect(ledger.oldestUnsavedMs(3_730_000, 60_000)).toBe(0);
  });
});

describe('readiness', () => {
  it('gives each probe its time, and breaks it off then', async () => {
    let brokenOff = false;
    const hangs = (signal: AbortSignal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          brokenOff = true;
          reject(signal.reason);
        });
      });
    const ok = async () => {};
    const ready = createReadiness({ database: ok, fly: ok, storage: hangs }, () => 0, 20);
    expect(await ready()).toEqual({
      ready: true,
      degraded: ['storage'],
      checks: { database: 'ok', fly: 'ok', storage: 'failed' },
    });
    expect(brokenOff).toBe(true);
  });
});
