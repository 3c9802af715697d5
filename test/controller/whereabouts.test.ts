import { expect, it } from 'vitest';
import { whereabouts } from '../../controller/sessions/whereabouts.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';

/** A controller that knows this much; what it asks the database for is counted. */
function controller(known: {
  hasAll?: boolean;
  connected?: boolean;
  live?: string;
  at?: string;
  mine?: string[];
}) {
  const asked: string[] = [];
  const { hasAll = false, connected = false, live, at = null, mine = [] } = known;
  const deps = {
    store: {
      findLiveSandbox: async (session: string) => {
        asked.push(session);
        return live === undefined ? null : ({ app: live } as SandboxRow);
      },
    },
    cells: {
      hasAll,
      holds: (app: string) => mine.includes(app),
      elsewhere: async (app: string) => (mine.includes(app) ? null : at),
      elsewhereToStart: async () => (mine.length > 0 ? null : at),
    },
    open: { knows: () => connected },
  };
  return { asked, of: (session: string, starts = false) => whereabouts(deps as never, session, starts) };
}

it.each([
  ['where all cells are held here', { hasAll: true }, 's1'],
  ['where the agent is connected here', { connected: true }, 's1'],
  ['about what can be no session', {}, 'Not An Id'],
])('asks the database nothing %s', async (_what, known, session) => {
  const { asked, of } = controller({ ...known, live: 'a', at: 'http://other' });
  expect(await of(session)).toBeNull();
  expect(asked).toEqual([]);
});

it.each([
  ['the holder of the sandbox’s cell', { live: 'a', at: 'http://other' }, false, 'http://other'],
  ['here, where that is this one', { live: 'a', mine: ['a'], at: 'http://other' }, false, null],
  ['here, where there is no sandbox', { at: 'http://other' }, false, null],
  [
    'another, where one is to be started and no cell is held here',
    { at: 'http://other' },
    true,
    'http://other',
  ],
  ['here, where one is to be started and a cell is', { at: 'http://other', mine: ['b'] }, true, null],
])('a request goes to %s', async (_what, known, starts, address) => {
  const { asked, of } = controller(known);
  expect(await of('s1', starts)).toBe(address);
  expect(asked).toEqual(['s1']);
});
