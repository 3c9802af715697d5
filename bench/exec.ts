import { spawn } from 'node:child_process';
import type { Bench } from './bench.ts';
import { type Figure, median, quantile } from './figures.ts';

const ROUNDS = 300;
const AT_ONCE = 32;
const TOGETHER = 2_000;

/** `true` through SDK, controller and agent, in turn with a bare `spawn('true')` from this Node. */
export async function benchExec({ mobvibe }: Bench): Promise<Figure[]> {
  await using session = await mobvibe.sessions.create({ id: 'bench-exec' });
  const run = async () => {
    const { exitCode } = await session.exec(['true']);
    if (exitCode !== 0) throw new Error(`true exited with ${exitCode}`);
  };
  for (let i = 0; i < 50; i += 1) await Promise.all([run(), bareSpawn()]);

  const ours: number[] = [];
  const bare: number[] = [];
  for (let i = 0; i < ROUNDS; i += 1) {
    ours.push(await timed(run));
    bare.push(await timed(bareSpawn));
  }
  const perSecond = await throughput(run);
  const barePerSecond = await throughput(bareSpawn);
  return [
    { name: 'exec of true, median', value: median(ours), unit: 'ms' },
    { name: 'exec of true, p99', value: quantile(ours, 0.99), unit: 'ms' },
    { name: 'bare spawn of true, median', value: median(bare), unit: 'ms' },
    { name: 'ratio of medians', value: median(ours) / median(bare), unit: '×', aim: { atMost: 2 } },
    { name: `commands a second, ${AT_ONCE} at once`, value: perSecond, unit: '/s', aim: { atLeast: 300 } },
    { name: `bare spawns a second, ${AT_ONCE} at once`, value: barePerSecond, unit: '/s' },
  ];
}

function bareSpawn(): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('true', { stdio: ['ignore', 'pipe', 'pipe'] });
    child.once('error', reject);
    child.once('close', () => resolve());
  });
}

async function timed(run: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}

async function throughput(run: () => Promise<void>): Promise<number> {
  let left = TOGETHER;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left > 0) {
        left -= 1;
        await run();
      }
    }),
  );
  return (TOGETHER / (performance.now() - began)) * 1000;
}
