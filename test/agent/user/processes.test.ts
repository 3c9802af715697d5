import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { type Relation, relationOf, relations } from '../../../image/agent/user/proc.ts';
import { UserProcesses } from '../../../image/agent/user/processes.ts';
import { alive, until } from '../rig.ts';

/** A shell with what it starts: all of its process group. */
function family(script: string): { child: ChildProcess; processes: UserProcesses; all: () => Relation[] } {
  const child = spawn('sh', ['-c', script], { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(() => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // It has ended.
    }
  });
  const all = () => relations().filter(({ group }) => group === child.pid);
  return { child, all, processes: new UserProcesses(all) };
}

const said = (child: ChildProcess) =>
  new Promise<string>((resolve) => child.stdout!.once('data', (text: Buffer) => resolve(text.toString())));
const state = (pid: number) => relationOf(pid)?.state;
const ticksOf = (pid: number) =>
  readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ').slice(13, 15).join(' ');

test('frozen processes stand still, and go on where they were', async () => {
  const { child, all, processes } = family('echo up; while :; do :; done & while :; do :; done');
  await said(child);
  await until(() => all().length === 2);
  const { complete, thaw } = await processes.freeze();
  expect(complete).toBe(true);
  expect(all().map((each) => each.state)).toEqual(['T', 'T']);
  const before = all().map(({ pid }) => ticksOf(pid));
  expect(all().map(({ pid }) => ticksOf(pid))).toEqual(before);
  thaw();
  await until(() => all().every((each) => each.state !== 'T'));
  await until(() => all().some(({ pid }, n) => ticksOf(pid) !== before[n]));
});

test('what was stopped before stays stopped', async () => {
  const { child, all, processes } = family('sleep 60 & echo $!; wait');
  const sleeper = Number(await said(child));
  process.kill(sleeper, 'SIGSTOP');
  await until(() => state(sleeper) === 'T');
  const { thaw } = await processes.freeze();
  thaw();
  await until(() => state(child.pid!) !== 'T');
  expect(state(sleeper)).toBe('T');
  expect(all()).toHaveLength(2);
});

test('a shell does not see that its child stood still', async () => {
  // With job control a shell that sees its child stopped goes on without it.
  const { child, processes } = family('set -m; echo up; sleep 0.3; echo "code $?"');
  await said(child);
  await until(() => relations().some(({ parent }) => parent === child.pid));
  const whole = new UserProcesses(() =>
    relations().filter(({ pid, parent }) => pid === child.pid || parent === child.pid),
  );
  const { thaw } = await whole.freeze();
  thaw();
  expect(await said(child)).toBe('code 0\n');
  expect(processes.count()).toBeLessThanOrEqual(1);
});

test('a flood of forks is stopped, and ends', async () => {
  const { child, processes } = family('trap "" TERM; echo up; while :; do sleep 30 & done');
  await said(child);
  await until(() => processes.count() > 20);
  const { complete, thaw } = await processes.freeze();
  expect(complete).toBe(true);
  const count = processes.count();
  expect(processes.count()).toBe(count);
  thaw();
  const { killed } = await processes.end(0);
  expect(killed).toBeGreaterThan(0);
  expect(processes.count()).toBe(0);
  expect(alive(child.pid!)).toBe(false);
});
