import { EventEmitter } from 'node:events';
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import type WebSocket from 'ws';
import { redialDelay } from '../../../image/agent/tunnel/backoff.ts';
import { watch } from '../../../image/agent/tunnel/watch.ts';

afterEach(() => vi.useRealTimers());

test('the wait before a redial is anything up to a bound that doubles from 100 ms to 10 s', () => {
  expect([0, 1, 5, 7, 50].map((attempt) => redialDelay(attempt, () => 0.9999999))).toEqual([
    99, 199, 3199, 9999, 9999,
  ]);
  fc.assert(
    fc.property(
      fc.nat(1_000),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (attempt, chance) => {
        const delay = redialDelay(attempt, () => chance);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(10_000);
      },
    ),
  );
});

class FakeSocket extends EventEmitter {
  readonly OPEN = 1;
  readyState = 1;
  ping = vi.fn();
  terminate = vi.fn(() => this.emit('close'));
}

test('a link is pinged while it answers and ended once nothing was heard for 15 s', () => {
  vi.useFakeTimers();
  const socket = new FakeSocket();
  watch(socket as unknown as WebSocket, Date.now);
  for (let beat = 0; beat < 10; beat += 1) {
    vi.advanceTimersByTime(5_000);
    socket.emit('pong');
  }
  expect(socket.ping).toHaveBeenCalledTimes(10);
  expect(socket.terminate).not.toHaveBeenCalled();
  vi.advanceTimersByTime(20_000);
  expect(socket.terminate).toHaveBeenCalledOnce();
  expect(vi.getTimerCount()).toBe(0);
});
