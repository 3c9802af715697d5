import { once } from 'node:events';
import { expect, test } from 'vitest';
import { alive, Rig, TOKEN, until } from '../rig.ts';

test('the agent dials with its token, says who it is and proves its disk', async () => {
  await using rig = await Rig.start();
  expect(rig.authorizations).toEqual([`Bearer ${TOKEN}`]);
  const health = (await rig.request('GET', '/health')).json();
  expect(health).toMatchObject({
    sandbox: 's-test-1',
    workspace: { state: 'pristine' },
    running_execs: 0,
    boot_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    disk_ms: expect.any(Number),
  });
  expect((await rig.request('GET', '/health')).json().boot_id).toBe(health.boot_id);
});

test('an unknown route is answered with a code', async () => {
  await using rig = await Rig.start();
  const answer = await rig.request('GET', '/nowhere?x=1');
  expect(answer.status).toBe(404);
  expect(answer.json()).toEqual({ code: 'route_not_found', detail: 'There is no GET /nowhere' });
});

test('the agent dials again after a refusal and after a cut, and stays the same', async () => {
  await using rig = await Rig.idle();
  rig.refuse = 503;
  rig.launch();
  await until(() => rig.authorizations.length >= 2);
  rig.refuse = undefined;
  const { boot_id } = (await rig.request('GET', '/health')).json();
  for (let round = 0; round < 5; round += 1) {
    await rig.cut();
    expect((await rig.request('GET', '/health')).json().boot_id).toBe(boot_id);
  }
  expect(rig.logs).not.toContain(TOKEN);
});

test('without a controller for so long the agent ends, and its execs with it', async () => {
  await using rig = await Rig.start({ MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS: '300' });
  const { pid } = (await rig.request('PUT', '/execs/a', { command: ['sleep', '1000'] })).json();
  rig.refuse = 503;
  await rig.cut();
  expect(await once(rig.agent, 'exit')).toEqual([70, null]);
  expect(alive(pid)).toBe(false);
});

test('SIGTERM ends what runs, even what does not want to, and exits with 0', async () => {
  await using rig = await Rig.start();
  const command = 'trap "" TERM; echo up; while :; do sleep 0.05; done';
  const events = rig.events('PUT', '/execs/a?follow=1', { command });
  let pid = 0;
  for await (const event of events) {
    if (event.type === 'start') pid = event.pid;
    if (event.type === 'stdout') break;
  }
  rig.agent.kill('SIGTERM');
  expect(await once(rig.agent, 'exit')).toEqual([0, null]);
  expect(alive(pid)).toBe(false);
});

test('a missing variable is named, and the token is not printed', async () => {
  await using rig = await Rig.idle();
  rig.launch({ MOBVIBE_SANDBOX: '' });
  expect((await once(rig.agent, 'exit'))[0]).toBe(1);
  await until(() => rig.logs.includes('MOBVIBE_SANDBOX is not set'));
  expect(rig.logs).not.toContain(TOKEN);
});
