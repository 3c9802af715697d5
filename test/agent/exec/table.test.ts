import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Exec } from '../../../image/agent/exec/exec.ts';
import { parseExecSpec } from '../../../image/agent/exec/spec.ts';
import { ExecTable } from '../../../image/agent/exec/table.ts';
import { Gate } from '../../../image/agent/seal/gate.ts';
import type { Spawned, UserSide } from '../../../image/agent/user/side.ts';

/** Runs what it is told to as this very user. */
const sameUser = {
  spawn: async ({ command }: { command: string[] | string }): Promise<Spawned> => {
    const [file, ...args] = command as string[];
    const child = spawn(file!, args, { detached: true });
    if (child.pid === undefined) throw (await once(child, 'error'))[0];
    return { child, stdout: child.stdout, stderr: child.stderr };
  },
} as Pick<UserSide, 'spawn'> as UserSide;

test('an exec that was let go of has ended: it is neither unknown nor run again', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'exec-table-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const table = new ExecTable({ user: sameUser, gate: new Gate(), stateDir, now: Date.now, mostEnded: 1 });
  const command = parseExecSpec({ command: ['true'] });
  for (const id of ['first', 'second']) {
    const { exec } = await table.start(id, command);
    await (exec as Exec).ended;
  }

  const gone = { code: 'exec_ended', detail: expect.stringContaining('first') };
  await expect(table.get('first')).rejects.toMatchObject(gone);
  await expect(table.start('first', command)).rejects.toMatchObject(gone);
  expect((await table.get('second')).end?.result).toEqual({ kind: 'exited', code: 0 });
  await expect(table.get('never')).rejects.toMatchObject({ code: 'exec_not_found' });
  await table.close(0);
});

test('what an earlier agent has started is known: with its end where it had one, as lost where not, and never run again', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'exec-table-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const open = (options = {}) =>
    new ExecTable({ user: sameUser, gate: new Gate(), stateDir, now: Date.now, ...options });
  const [short, long] = [
    ['echo', 'hi'],
    ['sleep', '1000'],
  ].map((command) => parseExecSpec({ command }));
  const earlier = open();
  const ended = (await earlier.start('ended', short!)).exec as Exec;
  await ended.ended;
  const running = (await earlier.start('running', long!)).exec as Exec;
  await expect(earlier.start('refused', parseExecSpec({ command: ['no-such-program'] }))).rejects.toThrow();

  const later = open({ restarted: 'out_of_memory' });
  running.signal('SIGKILL');
  await running.ended;
  expect((await later.get('ended')).end).toEqual(ended.end);
  const lost = { kind: 'machine_lost', reason: 'out_of_memory' };
  expect((await later.get('running')).info()).toMatchObject({ state: 'ended', result: lost });
  expect(await later.start('running', long!)).toMatchObject({
    created: false,
    exec: { end: { result: lost } },
  });
  await expect(later.start('running', short!)).rejects.toMatchObject({ code: 'exec_conflict' });
  await expect(later.live('ended')).rejects.toMatchObject({ code: 'exec_ended' });
  expect(later.list().map(({ id }) => id)).toEqual(['ended', 'running']);
  // What could not be started may be tried again.
  expect((await later.start('refused', short!)).created).toBe(true);
  await later.close(0);
});
