import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { saveAndStopSessions } from '../../local/stack/leave.ts';
import { Presses } from '../../local/stack/presses.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';

let harness: Harness;
let said: string[];
let hurry: AbortController;
beforeEach(async () => {
  harness = await Harness.start();
  said = [];
  hurry = new AbortController();
});
afterEach(() => harness.close());

const leave = (mostMs = 60_000) =>
  saveAndStopSessions({
    ...{ url: harness.url, apiKey: API_KEY, mostMs },
    tell: (line) => said.push(line),
    hurry: hurry.signal,
  });

describe('before a stack goes', () => {
  test('its open sessions are stopped, and each is told', async () => {
    for (const id of ['a', 'b', 'c']) await harness.fake.open(id);
    await harness.fake.stop('c');
    expect(await leave()).toBeNull();
    expect(said[0]).toMatch(/^saving and stopping 2 sessions a, b …/);
    expect(said.slice(1).sort()).toEqual(['a is saved and stopped', 'b is saved and stopped']);
  });

  test('nothing is said where none is open', async () => {
    expect(await leave()).toBeNull();
    expect(said).toEqual([]);
  });

  test('one that was opened meanwhile is stopped as well', async () => {
    await harness.fake.open('a');
    const { stop } = harness.fake;
    harness.fake.stop = async (id) => {
      if (id === 'a') await harness.fake.open('late');
      return stop.call(harness.fake, id);
    };
    expect(await leave()).toBeNull();
    expect(said.filter((line) => line.endsWith('stopped'))).toEqual([
      ...['a is saved and stopped', 'late is saved and stopped'],
    ]);
  });

  test('one that can not be saved is named when the time is over, with the reason', async () => {
    await harness.fake.open('a');
    await harness.fake.open('b');
    const { stop } = harness.fake;
    harness.fake.stop = async (id) => {
      if (id === 'b') throw new CodedError('save_failed', 'the quota is used up');
      return stop.call(harness.fake, id);
    };
    expect(await leave(1_500)).toMatch(/^Not saved after 2 s, .* is lost: b \(the quota is used up\)\.$/);
    expect(said).toContain('a is saved and stopped');
    harness.fake.stop = stop;
  });

  test('who is in a hurry is told what is lost', async () => {
    await harness.fake.open('a');
    harness.fake.stop = () => new Promise(() => {});
    const left = leave();
    await expect.poll(() => said).toHaveLength(1);
    hurry.abort();
    expect(await left).toBe('Not saved, what was changed since their last save is lost: a.');
    harness.fake.sessions.clear();
  });

  test('a controller that is gone is told, too', async () => {
    const { url } = harness;
    await harness.close();
    harness = await Harness.start();
    const answer = saveAndStopSessions({ url, apiKey: API_KEY, tell: () => {}, hurry: hurry.signal });
    expect(await answer).toMatch(/^The controller can't be asked/);
  });
});

test('a signal within a second of another is the same key press', () => {
  const presses = new Presses();
  expect([0, 3, 999, 1_001, 1_500, 2_600].map((now) => presses.add(now))).toEqual([1, 0, 0, 2, 0, 3]);
});
