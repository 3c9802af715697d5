import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';
import { type FlyWorld, startFlyWorld, TOKEN } from './fly-world.ts';

let world: FlyWorld;
let controllers: Harness;
let app: string;
beforeEach(async () => {
  world = await startFlyWorld();
  controllers = await Harness.start();
  app = await world.app();
  const config = { image: 'registry.fly.io/controller:1', restart: { policy: 'always' } };
  await world.call('POST', `/v1/apps/${app}/machines`, { name: 'controller-1', region: 'sjc', config });
  await expect.poll(machines).toEqual(['started']);
});
afterEach(async () => {
  await controllers.close();
  await world.close();
});

const machines = async () =>
  (await world.call('GET', `/v1/apps/${app}/machines`)).map(({ state }: { state: string }) => state);
const statuses = () => [...controllers.fake.sessions.values()].map(({ row }) => `${row.id} ${row.status}`);

async function drain(more: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['actions/drain.ts'], {
    cwd: 'infra',
    env: {
      ...{ PATH: process.env.PATH, FLY_API_TOKEN: TOKEN, FLY_FLAPS_BASE_URL: world.fly.url },
      ...{ MOBVIBE_DRAIN_APP: app, MOBVIBE_URL: controllers.url, MOBVIBE_API_KEY: API_KEY },
      ...more,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { stderr, said: stdout === '' ? null : JSON.parse(stdout) };
}

const failing = () => new CodedError('save_failed', 'the quota is used up');
const SOON = { MOBVIBE_STOP_SESSIONS_MS: '1500' };

describe('a destroy', () => {
  test('stops every session through the API, then the machines', async () => {
    for (let n = 1; n <= 12; n++) await controllers.fake.open(`s${n}`);
    await controllers.fake.stop('s12');
    const { said } = await drain();
    expect(said).toEqual({ app, stopped: 11, discarded: [], drained: 1 });
    expect(statuses().filter((line) => !line.endsWith(' stopped'))).toEqual([]);
    expect(await machines()).toEqual(['stopped']);
  }, 60_000);

  test('fails with the names of those that can not be saved; the controllers go on', async () => {
    await controllers.fake.open('a');
    await controllers.fake.open('b');
    controllers.fake.stopFails = failing();
    const { said, stderr } = await drain(SOON);
    expect(said).toBeNull();
    expect(stderr).toMatch(/Files of 2 sessions could not be saved: a \(the quota is used up\), b \(/);
    expect(stderr).toContain('MOBVIBE_DISCARD_UNSAVED=true pulumi destroy');
    expect(stderr).not.toContain(API_KEY);
    expect(await machines()).toEqual(['started']);
  }, 60_000);

  test('that may discard says what it gives up, to people and to the controllers', async () => {
    await controllers.fake.open('a');
    controllers.fake.stopFails = failing();
    const { said, stderr } = await drain({ ...SOON, MOBVIBE_DISCARD_UNSAVED: 'true' });
    expect(said).toEqual({ app, stopped: 0, discarded: ['a'], drained: 1 });
    expect(stderr).toContain('a (the quota is used up). They are given up.');
    expect(statuses()).toEqual(['a stopped']);
    expect(controllers.fake.asked.at(-1)).toEqual({ discardUnsaved: true, waitMs: 0 });
  }, 60_000);

  test('waits for a save that works again', async () => {
    await controllers.fake.open('a');
    let tries = 0;
    Object.defineProperty(controllers.fake, 'stopFails', { get: () => (++tries < 3 ? failing() : null) });
    expect((await drain()).said).toMatchObject({ stopped: 1, discarded: [] });
  }, 60_000);

  test.each([
    [
      'can not be reached',
      { MOBVIBE_URL: 'http://127.0.0.1:1' },
      /controllers at http:\/\/127.0.0.1:1 can't be asked/,
    ],
    ['are not known', { MOBVIBE_URL: '' }, /"pulumi up" once/],
    ['take the key no more', { MOBVIBE_API_KEY: 'mvk_wrong_key_0' }, /can't be asked/],
  ])(
    'fails where the controllers %s, unless it may discard',
    async (_what, more, sentence) => {
      const kept = await drain(more);
      expect([kept.said, kept.stderr]).toEqual([null, expect.stringMatching(sentence)]);
      expect(await machines()).toEqual(['started']);
      const gone = await drain({ ...more, MOBVIBE_DISCARD_UNSAVED: 'true' });
      expect([gone.said, gone.stderr]).toEqual([
        { app, stopped: 0, discarded: [], drained: 1 },
        expect.stringMatching(sentence),
      ]);
    },
    60_000,
  );
});
