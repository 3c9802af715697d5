import { expect, test } from 'vitest';
import { checkMachines } from '../../torture/checker/machines.ts';
import type { SeenMachine } from '../../torture/world/ledger.ts';
import { Story } from './story.ts';

/** Seconds of its start, of the request that it be destroyed, and of its exit. */
function machine(
  incarnation: number,
  from: number,
  asked?: number,
  exit?: number,
  id = `m${incarnation}`,
): SeenMachine {
  const event = (type: 'start' | 'destroy' | 'exit', source: 'user' | 'flyd', at: number | undefined) =>
    at === undefined ? [] : [{ id: '', type, status: '', source, timestamp: at * 1000 }];
  return {
    ...{ id, app: 'cell', name: `s-s-${incarnation}`, created_at: '' },
    state: exit === undefined ? 'started' : 'destroyed',
    // Newest first, as local Fly keeps them.
    events: [
      ...event('exit', 'flyd', exit),
      ...event('destroy', 'user', asked),
      ...event('start', 'flyd', from),
    ],
  };
}
/** Planned at 1, ready at 3, stopping at 5, destroying at 6. */
const stopped = () => new Story().ready(1).stopping(1).gone(1);
const kinds = (machines: SeenMachine[], living: SeenMachine[], story: Story) =>
  checkMachines(machines, living, [story]).map(({ kind, subject }) => `${kind} ${subject}`);

test('one that was destroyed when its sandbox was to go is right', () => {
  expect(kinds([machine(1, 2, 7, 8)], [], stopped())).toEqual([]);
});

test('one that is there in the end is leaked', () => {
  const left = machine(1, 2);
  expect(kinds([left], [left], stopped())).toEqual(['machine_leaked m1']);
});

test('one that was destroyed while its sandbox was ready was wrongly destroyed', () => {
  expect(kinds([machine(1, 2, 4, 5)], [], new Story().ready(1))).toEqual(['machine_wrongly_destroyed m1']);
  expect(kinds([machine(1, 2, 3.5, 5)], [], stopped())).toEqual(['machine_wrongly_destroyed m1']);
  // A second machine of the name, which no row has, is nobody's.
  expect(kinds([machine(1, 2, 3.5, 4, 'other')], [], stopped())).toEqual([]);
});

test('two of one session at once are doubled, unless the older one was on its way out', () => {
  const second = () => stopped().ready(2);
  expect(kinds([machine(1, 2, 7, 20), machine(2, 10)], [], second())).toEqual([]);
  const unended = new Story().ready(1).ready(2);
  expect(kinds([machine(1, 2), machine(2, 5)], [], unended)).toEqual(['machine_doubled m2']);
  expect(kinds([machine(1, 2), machine(1, 3, undefined, undefined, 'twin')], [], stopped())).toEqual([
    'machine_doubled twin',
  ]);
});
