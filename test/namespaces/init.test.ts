import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const INIT = fileURLToPath(new URL('../../image/init/init.sh', import.meta.url));

/** Starts init; `signalAt`: sends the signal once the program has printed a line. */
async function run(command: string[], signalAt?: NodeJS.Signals) {
  const child = spawn('/bin/sh', [INIT, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (text) => {
    out += text;
  });
  const exited = once(child, 'close');
  if (signalAt) {
    await once(child.stdout, 'data');
    child.kill(signalAt);
  }
  const [code] = await exited;
  return { code, out: out.trim() };
}

test('gives the code of its program', async () => {
  expect((await run(['sh', '-c', 'exit 7'])).code).toBe(7);
  expect((await run(['true'])).code).toBe(0);
  expect((await run(['/no/such/program'])).code).toBe(127);
});

test('gives 128 + n for a program that a signal ended', async () => {
  expect((await run(['sh', '-c', 'kill -KILL $$'])).code).toBe(137);
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const)(
  'passes %s on',
  async (signal) => {
    const name = signal.slice(3);
    const script = `trap "echo got ${name}; exit 5" ${name}; echo up; while :; do sleep 0.01; done`;
    expect(await run(['sh', '-c', script], signal)).toEqual({ code: 5, out: `up\ngot ${name}` });
  },
);

test('waits for a program that handles a signal and goes on', async () => {
  const script = 'trap "n=1" TERM; echo up; while [ -z "$n" ]; do sleep 0.01; done; sleep 0.05; exit 3';
  expect((await run(['sh', '-c', script], 'SIGTERM')).code).toBe(3);
});

test.each(['SIGINT', 'SIGTERM'] as const)(
  'loses no %s that comes while the program is being started',
  async (signal) => {
    const ends = Array.from({ length: 10 }, async () => {
      const child = spawn('/bin/sh', [INIT, 'sleep', '99'], { stdio: 'ignore' });
      const closed = once(child, 'close');
      // From the first moment on at which the signal would not end init itself: SIGUSR2 is the last one that it traps, and the
      // shell's own handler of SIGINT stands before its trap does.
      while (!handles(child.pid!, constants.signals.SIGUSR2)) await setImmediate();
      child.kill(signal);
      return (await closed)[0];
    });
    expect(new Set(await Promise.all(ends))).toEqual(new Set([128 + constants.signals[signal]]));
  },
);

function handles(pid: number, signal: number): boolean {
  const mask = /^SigCgt:\s+(\S+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}
