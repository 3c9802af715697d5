import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Gate } from '../../../image/agent/seal/gate.ts';

const STOPPING = { code: 'session_stopping' };

/** Whether a promise has settled when all that is ready has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => (done = true),
    () => (done = true),
  );
  for (let turn = 0; turn < 5; turn += 1) await setImmediate();
  return done;
}

test('admits work and gives its value or its error', async () => {
  const gate = new Gate();
  expect(await gate.admit(() => 5)).toBe(5);
  expect(await gate.admit(async (still) => still())).toBeUndefined();
  await expect(gate.admit(() => Promise.reject(new Error('full')))).rejects.toThrow('full');
});

test('closing waits for what was admitted, and what has not been changed by then is not', async () => {
  const gate = new Gate();
  const { promise: body, resolve: arrive } = Promise.withResolvers<void>();
  let changed = 0;
  const early = gate.admit(async (still) => {
    still();
    changed += 1;
    await body;
  });
  const late = gate.admit(async (still) => {
    await body;
    still();
    changed += 1;
  });
  const failure = expect(late).rejects.toMatchObject(STOPPING);
  const closing = gate.close();
  expect(await settled(closing)).toBe(false);
  await expect(gate.admit(() => 1)).rejects.toMatchObject(STOPPING);
  arrive();
  await Promise.all([early, failure, closing, gate.close()]);
  expect(changed).toBe(1);
});

test('work that waits for more can hear of the end', async () => {
  const gate = new Gate();
  const work = gate.admit(
    ({ signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
  );
  const failure = expect(work).rejects.toMatchObject(STOPPING);
  await Promise.all([gate.close(), failure]);
});

test('a hold waits for changes under way, and later ones wait for it', async () => {
  const gate = new Gate();
  const first = Promise.withResolvers<void>();
  const inHold = Promise.withResolvers<string>();
  const order: string[] = [];
  const under = gate.admit(() => first.promise.then(() => order.push('change')));
  const hold = gate.hold(() => {
    order.push('hold');
    return inHold.promise;
  });
  const after = gate.admit(() => order.push('after'));
  expect(await settled(hold)).toBe(false);
  expect(order).toEqual([]);
  first.resolve();
  await under;
  expect(await settled(after)).toBe(false);
  inHold.resolve('value');
  expect(await hold).toBe('value');
  await after;
  expect(order).toEqual(['change', 'hold', 'after']);
});

test('a hold does not wait for a body, but what comes after the body waits for the hold', async () => {
  const gate = new Gate();
  const body = Promise.withResolvers<void>();
  const inHold = Promise.withResolvers<void>();
  const upload = gate.admit((still) => still.aside(() => body.promise).then(() => 'put in place'));
  const hold = gate.hold(() => inHold.promise);
  body.resolve();
  expect(await settled(upload)).toBe(false);
  inHold.resolve();
  await hold;
  expect(await upload).toBe('put in place');

  const never = gate.admit((still) =>
    still.aside(async () => still.signal.addEventListener('abort', () => {})),
  );
  await never;
});

test('a body that was still coming when the gate closed is not put in place', async () => {
  const gate = new Gate();
  const body = Promise.withResolvers<void>();
  const upload = gate.admit((still) => still.aside(() => body.promise));
  const failure = expect(upload).rejects.toMatchObject(STOPPING);
  const closing = gate.close();
  body.resolve();
  await Promise.all([closing, failure]);
});

test('a hold gives up when a change takes too long, and those who waited go on', async () => {
  const gate = new Gate({ holdPatienceMs: 1 });
  const slow = Promise.withResolvers<void>();
  const under = gate.admit(() => slow.promise);
  const hold = expect(gate.hold(() => Promise.resolve())).rejects.toMatchObject({ name: 'GateBusy' });
  expect(await gate.admit(() => 'after')).toBe('after');
  await hold;
  slow.resolve();
  await under;
});

test('closing ends the wait of those that a hold keeps, and waits for the hold; a failed hold is over', async () => {
  const gate = new Gate();
  const inHold = Promise.withResolvers<void>();
  const hold = expect(gate.hold(() => inHold.promise)).rejects.toThrow('broken');
  const waiting = expect(gate.admit(() => 1)).rejects.toMatchObject(STOPPING);
  const closing = gate.close();
  await waiting;
  expect(await settled(closing)).toBe(false);
  inHold.reject(new Error('broken'));
  await Promise.all([hold, closing]);
  expect(await gate.hold(async () => 'still possible')).toBe('still possible');
});
