import { expect, test } from 'vitest';
import { Rig } from '../rig.ts';
import { long } from './long.ts';

const DEATHLESS = `trap '' TERM; n=0; while :; do n=$((n+1)); echo $n >> log; done`;

test('user code is held still while its files are packed, and runs on afterwards', async () => {
  await using rig = await Rig.start();
  await rig.request('PUT', '/execs/writer', { command: DEATHLESS });
  await rig.run('other', 'until [ -s log ]; do :; done');
  // On a busy machine the program may not have come to write anything between two looks.
  for (let pauses = 0, save = 0; pauses < 2; save += 1) {
    const { result } = await long(rig, '/workspace/pack', { base: 0, pause_ms: 60_000 });
    expect(result).toMatchObject({ changed: true, atomic: true });
    if (result.paused_ms > 0) pauses += 1;
    await rig.run(`on${save}`, 'n=$(stat -c %s log); until [ $(stat -c %s log) -gt $n ]; do :; done');
  }
});

test('the save after a seal has all that user code wrote until its end, without holding anybody', async () => {
  await using rig = await Rig.start();
  await rig.request('PUT', '/execs/writer', { command: DEATHLESS });
  await rig.run('other', 'until [ -s log ]; do :; done');
  expect((await rig.request('POST', '/seal', { fence: 0, grace_ms: 0 })).json()).toMatchObject({ killed: 1 });
  const refused = await rig.request('PUT', '/files?path=late', 'x');
  expect([refused.status, refused.json().code]).toEqual([409, 'session_stopping']);
  const first = (await long(rig, '/workspace/pack', { base: 0, pause_ms: 0 })).result;
  expect(first).toMatchObject({ atomic: true, paused_ms: 0, files: 1 });
  expect((await long(rig, '/workspace/pack', { base: 0, pause_ms: 0 })).result).toEqual(first);
});
