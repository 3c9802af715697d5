import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { API_KEY, Harness } from './support/harness.ts';

let harness: Harness;
const DEMO = '/v1/sessions/demo';

beforeEach(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
});
afterEach(() => harness.close());

const post = (path: string, body?: object) =>
  harness.fetch(path, { method: 'POST', ...(body && { body: JSON.stringify(body) }) });

describe('stop and open', () => {
  test('pass on how to', async () => {
    await post(`${DEMO}/stop?wait_ms=5`, { grace_ms: 0, discard_unsaved: true });
    await post(`${DEMO}/open`, { version: 3 });
    await post(`${DEMO}/stop`);
    await post(`${DEMO}/open`);
    expect(harness.fake.asked).toEqual([
      { waitMs: 5, graceMs: 0, discardUnsaved: true },
      { version: 3 },
      {},
      {},
    ]);
  });

  test.each([
    ['stop', { grace_ms: 600_001 }, 'grace_ms'],
    ['stop', { discard_unsaved: 'yes' }, 'discard_unsaved'],
    ['stop', { discard: true }, 'discard'],
    ['open', { version: 0 }, 'version'],
    ['open', { version: '3' }, 'version'],
  ])('%s refuses %o', async (action, body, field) => {
    const answer = await post(`${DEMO}/${action}`, body);
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'invalid_request', field }]);
    expect(harness.fake.asked).toEqual([]);
  });
});

test('a session says how its saves fare, and that its agent does not answer', async () => {
  const save = {
    ...{ state: 'failing', since: '2026-11-28T10:00:00Z' },
    ...{ code: 'storage_full', detail: 'the quota is used up' },
  } as const;
  Object.assign(harness.fake.session('demo').row, { save, save_attempts: 3, status: 'unresponsive' });
  expect(await harness.json(DEMO)).toMatchObject({ save: { ...save, attempts: 3 }, status: 'unresponsive' });
  expect(await harness.json('/v1/sessions?status=unresponsive')).toMatchObject({ items: [{ id: 'demo' }] });
});

test('when to come back is said in the header and in the body', async () => {
  harness.fake.stopFails = new CodedError('no_capacity', 'full', { retryAfterMs: 1_200 });
  const answer = await post(`${DEMO}/stop`);
  expect(answer.headers.get('retry-after')).toBe('2');
  expect(await answer.json()).toMatchObject({ code: 'no_capacity', retry_after_ms: 1_200 });
  harness.fake.stopFails = new CodedError('save_failed', 'unsaved');
  const other = await post(`${DEMO}/stop`);
  expect(other.headers.has('retry-after')).toBe(false);
  expect(await other.json()).not.toHaveProperty('retry_after_ms');
});

describe('what is not saved', () => {
  test('is told, and given out as a tar, also while the session is being stopped', async () => {
    harness.fake.session('demo').row.status = 'stopping';
    expect(await harness.json(`${DEMO}/unsaved`)).toMatchObject({ known: true, files: 2, bytes: 10 });
    const tar = await harness.fetch(`${DEMO}/rescue`);
    expect([tar.status, tar.headers.get('content-type'), await tar.text()]).toEqual([
      ...[200, 'application/x-tar', 'tar'],
    ]);
  });

  test('is not there without a sandbox', async () => {
    await harness.fake.stop('demo');
    for (const what of ['unsaved', 'rescue']) {
      expect(await harness.json(`${DEMO}/${what}`)).toMatchObject({ code: 'session_not_open' });
    }
  });

  /** A tar without end, and how much of it was taken. */
  function endless() {
    const made = { bytes: 0 };
    const body = new Readable({
      read(size) {
        made.bytes += size;
        this.push(Buffer.alloc(size));
      },
    });
    harness.fake.rescue = () => body;
    return { body, made };
  }

  test('is read no faster than the client takes it, and no longer than it stays', async () => {
    const { body, made } = endless();
    const outgoing = request(`${harness.url}${DEMO}/rescue`, {
      headers: { authorization: `Bearer ${API_KEY}` },
    }).end();
    const [answer] = await once(outgoing, 'response');
    answer.pause();
    // The kernel's buffers fill up; then nothing more is read.
    let before = -1;
    await vi.waitFor(() => {
      const now = made.bytes;
      const isStill = now === before;
      before = now;
      expect(isStill).toBe(true);
    }, 20_000);
    expect(made.bytes).toBeLessThan(64 * 1024 * 1024);
    outgoing.destroy();
    await vi.waitFor(() => expect(body.destroyed).toBe(true));
  });

  test('that breaks off is never a whole tar', async () => {
    const { body } = endless();
    const answer = await harness.fetch(`${DEMO}/rescue`);
    body.destroy(new Error('the agent is gone'));
    await expect(answer.arrayBuffer()).rejects.toThrow();
  });
});
