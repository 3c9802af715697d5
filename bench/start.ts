import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { type Figure, median, quantile } from './figures.ts';

const ROUNDS = 15;
/** Fly takes one create a second for each app; faster, we would measure our own patience. */
const PAUSE_MS = 1_100;

/** From asking for a session to the result of its first exec, without a pool. */
export async function benchStart({ mobvibe, say }: Bench): Promise<Figure[]> {
  const total: number[] = [];
  const create: number[] = [];
  const exec: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(PAUSE_MS);
    const began = performance.now();
    const session = await mobvibe.sessions.create({ id: `bench-start-${round}` });
    const ready = performance.now();
    await session.exec(['true']);
    const done = performance.now();
    if (round > 0) {
      total.push(done - began);
      create.push(ready - began);
      exec.push(done - ready);
    } else {
      say(`first session (not counted): ${(done - began).toFixed(0)} ms`);
    }
    await session.stop();
  }
  return [
    {
      name: 'session asked → first exec’s result, median',
      value: median(total),
      unit: 'ms',
      aim: { atMost: 300 },
    },
    { name: 'the same, p95', value: quantile(total, 0.95), unit: 'ms' },
    { name: '  of it until ready, median', value: median(create), unit: 'ms' },
    { name: '  of it first exec, median', value: median(exec), unit: 'ms' },
  ];
}
