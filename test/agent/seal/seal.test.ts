import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { alive, gather, Rig, until } from '../rig.ts';

const isRoot = process.getuid!() === 0;
/** Nobody else's on this computer: all of its processes may be killed. */
const USER = 41_238;
const MACHINE = [
  'unshare',
  '--map-root-user',
  '--pid',
  '--mount',
  '--ipc',
  '--fork',
  '--kill-child',
  '--mount-proc',
];
const NESTED = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...MACHINE] : MACHINE;
const canNest = spawnSync(NESTED[0]!, [...NESTED.slice(1), process.execPath, '-e', '0']).status === 0;

const KINDS: [name: string, able: boolean, env: Record<string, string>, prefix: string[]][] = [
  ['the agent’s own uid', true, {}, []],
  ['a uid of its own', isRoot, { MOBVIBE_AGENT_USER: `${USER}:${USER}` }, []],
  ['namespaces of its own', canNest, { MOBVIBE_AGENT_USER: 'nested' }, NESTED],
];

/** Leaves its exec, and does not end when it is asked to; no more does the shell that started it. */
const DAEMON =
  'setsid sh -c "trap : TERM; echo up > daemon; while :; do sleep 0.1; done" >/dev/null 2>&1 & while :; do sleep 0.1; done';
const BOMB =
  'bomb() { sleep 60 & for n in 1 2 3 4 5 6; do (sleep 60) & done; wait; }; bomb & bomb & bomb & wait';

describe.each(KINDS)('user code with %s', (_name, able, env, prefix) => {
  async function start(): Promise<Rig> {
    const rig = await Rig.idle();
    if (prefix.length > 0) chmodSync(rig.dir, 0o777);
    else if (isRoot) chmodSync(rig.dir, 0o755);
    rig.launch({ ...env, MOBVIBE_FENCE: '7' }, prefix);
    await rig.connected();
    return rig;
  }
  const seal = (rig: Rig, grace_ms: number, fence = 7) => rig.request('POST', '/seal', { fence, grace_ms });
  const follow = (rig: Rig, id: string, command: string) =>
    gather(rig.events('PUT', `/execs/${id}?follow=1`, { command, stdin: true }));
  const running = async (rig: Rig) => (await rig.request('GET', '/health')).json().running_execs;

  test.skipIf(!able)(
    'ends with the seal, whatever it has done to stay, and nothing new is let in',
    async () => {
      await using rig = await start();
      const polite = follow(
        rig,
        'seal-polite',
        'trap "echo bye; exit 3" TERM; echo hi; while :; do sleep 0.05; done',
      );
      const plain = follow(rig, 'seal-plain', 'exec sleep 60');
      const stubborn = follow(rig, 'seal-stubborn', `trap : TERM; ${DAEMON}`);
      const many = follow(rig, 'seal-many', BOMB);
      const stopped = follow(rig, 'seal-stopped', 'kill -STOP $$; echo never');
      await until(async () => (await running(rig)) === 5);
      let looks = 0;
      await until(async () => (await rig.run(`seal-look-${looks++}`, 'cat daemon; true')).stdout === 'up\n');
      const sealed = await seal(rig, 300);
      expect(sealed.json()).toMatchObject({ terminated: expect.any(Number), killed: expect.any(Number) });
      expect(sealed.json().killed).toBeGreaterThan(0);
      expect((await polite).stdout).toBe('hi\nbye\n');
      expect((await polite).end?.result).toEqual({ kind: 'exited', code: 3 });
      expect((await plain).end?.result).toEqual({ kind: 'signaled', signal: 'SIGTERM', by: 'stop' });
      expect((await stubborn).end?.result).toEqual({ kind: 'signaled', signal: 'SIGKILL', by: 'stop' });
      expect((await stopped).stdout).toBe('');
      expect((await many).end).toBeDefined();

      const refused = { status: 409 };
      for (const answer of [
        await rig.request('PUT', '/execs/seal-late', { command: 'true' }),
        await rig.request('POST', '/execs/seal-late/stdin?offset=0', 'x'),
      ]) {
        if (answer.status !== 404) expect(answer).toMatchObject(refused);
      }
      expect((await rig.request('PUT', '/execs/seal-late', { command: 'true' })).json().code).toBe(
        'session_stopping',
      );
      // What was known stays known, and the answer is the same when it is asked for again.
      expect((await rig.request('GET', '/execs/seal-plain')).json()).toMatchObject({ state: 'ended' });
      expect((await seal(rig, 0)).json()).toEqual(sealed.json());
    },
  );

  test.skipIf(!able)('changes nothing once the seal has answered', async () => {
    await using rig = await start();
    const tick = 'n=0; while :; do n=$((n+1)); echo $n > ticks; sleep 0.01; done';
    void follow(rig, 'seal-ticks', tick).catch(() => {});
    let looks = 0;
    await until(
      async () => (await rig.run(`seal-see-${looks++}`, 'cat ticks 2>/dev/null; true')).stdout !== '',
    );
    expect((await seal(rig, 0)).status).toBe(200);
    const at = join(rig.workspace, 'ticks');
    expect(readFileSync(at, 'utf8')).toBe(readFileSync(at, 'utf8'));
  });
});

test('an older fencing token is refused, and a newer one taken', async () => {
  await using rig = await Rig.start({ MOBVIBE_FENCE: '7' });
  const asked = (fence: number) => rig.request('POST', '/seal', { fence, grace_ms: 0 });
  expect((await asked(6)).json()).toMatchObject({ code: 'fenced', field: 'fence' });
  expect((await rig.run('still', 'echo open')).stdout).toBe('open\n');
  expect((await asked(8)).status).toBe(200);
  expect((await asked(7)).json()).toMatchObject({ code: 'fenced' });
});

test.each([
  { fence: -1, grace_ms: 0 },
  { fence: 1 },
  { fence: 1, grace_ms: 600_001 },
  { fence: '1', grace_ms: 0 },
])('the request %j is refused and seals nothing', async (body) => {
  await using rig = await Rig.start();
  expect((await rig.request('POST', '/seal', body)).json()).toMatchObject({ code: 'invalid_request' });
  expect((await rig.run('still', 'echo open')).stdout).toBe('open\n');
});

test('input that waits for a process to read it is let go of by the seal', async () => {
  await using rig = await Rig.start();
  const exec = gather(rig.events('PUT', '/execs/deaf?follow=1', { command: 'exec sleep 60', stdin: true }));
  await until(async () => (await rig.request('GET', '/execs/deaf')).status === 200);
  const pid = (await rig.request('GET', '/execs/deaf')).json().pid;
  const input = rig.request('POST', '/execs/deaf/stdin?offset=0', Buffer.alloc(4 << 20));
  await until(async () => alive(pid));
  await rig.request('POST', '/seal', { fence: 0, grace_ms: 0 });
  expect((await input).json()).toMatchObject({ code: 'session_stopping' });
  expect((await exec).end?.result).toMatchObject({ by: 'stop' });
});
