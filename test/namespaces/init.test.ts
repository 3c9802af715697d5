import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';

const INIT = fileURLToPath(new URL('../../image/init/init.sh', import.meta.url));

/** Starts init; `signalAt`: sends the signal once the program has printed a line. */
async function run(command: string[], signalAt?: NodeJS.Signals, env = process.env) {
  const child = spawn('/bin/sh', [INIT, ...command], { stdio: ['ignore', 'pipe', 'inherit'], env });
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

/** A program that lives by its heartbeat: `script` may call `beat`, and keeps in the file `runs` why it was started. */
async function runWatched(script: string, signalAt?: NodeJS.Signals) {
  const dir = mkdtempSync(join(tmpdir(), 'init-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const program = `beat() { echo $((n += 1)) >${dir}/heartbeat; }
    echo "$MOBVIBE_AGENT_RESTARTED" >>${dir}/runs; runs=$(grep -c "" ${dir}/runs)
    ${script}`;
  const env = { ...process.env, MOBVIBE_AGENT_STATE_DIR: dir, MOBVIBE_INIT_LOOK_S: '0.3' };
  const { code } = await run(['sh', '-c', program], signalAt, env);
  return { code, reasons: readFileSync(join(dir, 'runs'), 'utf8').split('\n').slice(0, -1) };
}

describe('a program with a heartbeat', () => {
  test.each([0, 70, 78])('is not started again when it ends with %i', async (code) => {
    expect(await runWatched(`beat; exit ${code}`)).toEqual({ code, reasons: [''] });
  });

  test('is started again when it fails, and told why', async () => {
    expect(await runWatched('beat; [ $runs = 2 ] && exit 0; exit 3')).toEqual({
      code: 0,
      reasons: ['', 'crashed'],
    });
    expect(await runWatched('beat; [ $runs = 2 ] && exit 0; kill -KILL $$')).toEqual({
      code: 0,
      reasons: ['', 'crashed'],
    });
  });

  test('is killed and started again when its count stands still, and not while it goes on', async () => {
    const script =
      '[ $runs = 2 ] && { while [ "$n" != 100 ]; do beat; sleep 0.025; done; exit 0; }; beat; while :; do sleep 0.1; done';
    expect(await runWatched(script)).toEqual({ code: 0, reasons: ['', 'unresponsive'] });
  });

  test('is given up when it fails five times in a row after that', async () => {
    const { code, reasons } = await runWatched('beat; exit 5');
    expect(code).toBe(5);
    expect(reasons).toHaveLength(6);
  });

  test('is not started again once the machine is to stop', async () => {
    expect(await runWatched('beat; echo up; while :; do sleep 0.01; beat; done', 'SIGTERM')).toEqual({
      code: 143,
      reasons: [''],
    });
    // Also while init waits before it starts it again.
    expect(await runWatched('beat; [ $runs = 2 ] && echo up; exit 5', 'SIGTERM')).toEqual({
      code: 5,
      reasons: ['', 'crashed'],
    });
  });

  test('has to have one: what fails before it is a mistake, and stays one', async () => {
    expect(await runWatched('exit 5')).toEqual({ code: 5, reasons: [''] });
  });
});

function handles(pid: number, signal: number): boolean {
  const mask = /^SigCgt:\s+(\S+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}
