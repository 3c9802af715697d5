import { expect, test } from 'vitest';
import { mayPass, pauseMs, persist, storageCode } from '../../../image/agent/workspace/retry.ts';
import { DamagedObject, StorageError } from '../../../image/agent/workspace/transfer.ts';

test.each<[string, number, string]>([
  ['storage_full', 402, 'quota exceeded'],
  ['storage_full', 413, 'Payload too large EntityTooLarge'],
  ['storage_full', 400, 'EntityTooLarge The object exceeded the maximum allowed size'],
  ['storage_refused', 401, ''],
  ['storage_refused', 403, 'Unauthorized AccessDenied new row violates row-level security policy'],
  ['storage_refused', 404, 'Bucket not found NoSuchBucket'],
  ['storage_refused', 400, 'InvalidKey'],
  ['storage_unavailable', 429, 'too_many_connections'],
  ['storage_unavailable', 423, 'ResourceLocked'],
  ['storage_unavailable', 500, ''],
  ['storage_unavailable', 503, 'SlowDown'],
  ['storage_unavailable', 544, 'DatabaseTimeout'],
])('%s: %i %s', (code, status, reason) => {
  expect(storageCode(new StorageError(status, reason))).toBe(code);
});

test('what breaks on the way is storage that is not there', () => {
  expect(storageCode(new Error('socket hang up'))).toBe('storage_unavailable');
});

test('only what may pass is tried again, four times in all', () => {
  const passing = new StorageError(503, '');
  expect([1, 2, 3, 4].map((tries) => mayPass(passing, tries))).toEqual([true, true, true, false]);
  expect(mayPass(new StorageError(402, ''), 1)).toBe(false);
  expect(mayPass(new StorageError(403, ''), 1)).toBe(false);
  expect([1, 2].map((tries) => mayPass(new DamagedObject('truncated', ''), tries))).toEqual([true, false]);
  expect(mayPass(new DamagedObject('missing', ''), 1)).toBe(false);
});

test('a pause is a random part of a limit that doubles', () => {
  expect([1, 2, 3].map((tries) => pauseMs(tries, 0.5))).toEqual([500, 1000, 2000]);
  expect(pauseMs(3, 0)).toBe(0);
});

test('pauses between tries, and gives up with the last error', async () => {
  const pauses: number[] = [];
  const randoms = [0.1, 0.2, 0.3];
  let tries = 0;
  const attempt = async () => {
    tries += 1;
    throw new StorageError(500, `${tries}`);
  };
  const pause = async (ms: number) => void pauses.push(ms);
  await expect(persist(attempt, { random: () => randoms.shift()!, pause })).rejects.toThrow('500 4');
  expect(pauses).toEqual([100, 400, 1200]);
});

test('does not try again for somebody who has gone', async () => {
  const gone = new AbortController();
  let tries = 0;
  const attempt = async () => {
    tries += 1;
    gone.abort();
    throw new StorageError(500, '');
  };
  await expect(persist(attempt, { random: () => 0, signal: gone.signal })).rejects.toThrow('500');
  expect(tries).toBe(1);
});
