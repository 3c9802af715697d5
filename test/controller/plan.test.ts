import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MachineView } from '../../controller/sessions/machines.ts';
import {
  type Action,
  type Limits,
  type Looks,
  lookAgain,
  NO_LOOKS,
  plan,
  type View,
} from '../../controller/sessions/plan.ts';
import type { SandboxRow, SandboxState } from '../../controller/store/rows.ts';

const NOW = Date.parse('2026-11-23T12:00:00Z');
const LIMITS: Limits = { maxAgeMs: 1_800_000, unknownGraceMs: 120_000, lookApartMs: 5_000 };
const MINUTE = 60_000;

function row(name: string, state: SandboxState, fields: Partial<SandboxRow> = {}): SandboxRow {
  const at = new Date(NOW - MINUTE).toISOString();
  return {
    name,
    session_id: name.split('-')[1]!,
    incarnation: 1,
    fence: 1,
    app: 'cell',
    machine_id: state === 'planned' ? null : `m-${name}`,
    region: 'sjc',
    state,
    reason: null,
    created_at: at,
    updated_at: at,
    ready_at: null,
    gone_at: null,
    stopping_at: null,
    sealing_at: null,
    grace_ms: null,
    discard_unsaved: false,
    restore_version: null,
    unresponsive_since: null,
    agent_boot: null,
    ...fields,
  };
}

function machine(name: string, fields: Partial<MachineView> = {}): MachineView {
  const createdAt = NOW - 10 * MINUTE;
  return { id: `m-${name}`, name, state: 'started', region: 'sjc', createdAt, metadata: {}, ...fields };
}

function view(fields: Partial<View>): View {
  return { sandboxes: [], machines: [], connected: new Set(), busy: new Set(), ...fields };
}

const missing = (name: string, sinceMs: number): Looks => ({
  ...NO_LOOKS,
  missing: new Map([[name, NOW - sinceMs]]),
});
const unknown = (id: string, sinceMs: number): Looks => ({
  ...NO_LOOKS,
  unknown: new Map([[id, NOW - sinceMs]]),
});
const brief = (actions: Action[]): string[] =>
  actions.map((action) =>
    action.type === 'destroy_unknown'
      ? `${action.type} ${action.machine.id}`
      : `${action.type} ${action.sandbox.name}`,
  );

describe('plan', () => {
  const ready = row('s-a-1', 'ready');
  const old = row('s-a-1', 'ready', { created_at: new Date(NOW - 30 * MINUTE).toISOString() });
  const cases: [what: string, view: View, looks: Looks, actions: string[]][] = [
    ...(['planned', 'created', 'stopping', 'destroying'] as const).map(
      (state): [string, View, Looks, string[]] => [
        `drives a sandbox that is ${state}`,
        view({ sandboxes: [row('s-a-1', state)] }),
        NO_LOOKS,
        ['drive s-a-1'],
      ],
    ),
    [
      'leaves to its worker what has one',
      view({ sandboxes: [row('s-a-1', 'planned')], busy: new Set(['s-a-1']) }),
      NO_LOOKS,
      [],
    ],
    [
      'leaves a ready sandbox with its machine alone',
      view({ sandboxes: [ready], machines: [machine('s-a-1')] }),
      NO_LOOKS,
      [],
    ],
    [
      'stops what is 30 minutes old',
      view({ sandboxes: [old], machines: [machine('s-a-1')] }),
      NO_LOOKS,
      ['stop s-a-1'],
    ],
    [
      'stops what is old even if Fly does not answer',
      view({ sandboxes: [old], machines: null }),
      NO_LOOKS,
      ['stop s-a-1'],
    ],
    ['does nothing at the first look that misses a machine', view({ sandboxes: [ready] }), NO_LOOKS, []],
    [
      'does nothing at a second look right after the first',
      view({ sandboxes: [ready] }),
      missing('s-a-1', 4_999),
      [],
    ],
    [
      'asks about a machine that was missing twice',
      view({ sandboxes: [ready] }),
      missing('s-a-1', 5_000),
      ['confirm_lost s-a-1'],
    ],
    [
      'believes an agent that is connected more than any list',
      view({ sandboxes: [ready], connected: new Set(['s-a-1']) }),
      missing('s-a-1', MINUTE),
      [],
    ],
    [
      'takes no answer for no look',
      view({ sandboxes: [ready], machines: null }),
      missing('s-a-1', MINUTE),
      [],
    ],
    [
      'asks about a machine that lies there stopped',
      view({ sandboxes: [ready], machines: [machine('s-a-1', { state: 'stopped' })] }),
      missing('s-a-1', MINUTE),
      ['confirm_lost s-a-1'],
    ],
    ['only looks at an unknown machine first', view({ machines: [machine('s-b-1')] }), NO_LOOKS, []],
    [
      'destroys an unknown machine seen twice',
      view({ machines: [machine('s-b-1')] }),
      unknown('m-s-b-1', 5_000),
      ['destroy_unknown m-s-b-1'],
    ],
    [
      'leaves one that is too young',
      view({ machines: [machine('s-b-1', { createdAt: NOW - 119_999 })] }),
      unknown('m-s-b-1', MINUTE),
      [],
    ],
    [
      'leaves one of unknown age',
      view({ machines: [machine('s-b-1', { createdAt: undefined })] }),
      unknown('m-s-b-1', MINUTE),
      [],
    ],
    ...['creating', 'starting', 'stopping', 'replacing', 'destroying', 'destroyed', 'something-new'].map(
      (state): [string, View, Looks, string[]] => [
        `leaves one that is ${state}`,
        view({ machines: [machine('s-b-1', { state })] }),
        unknown('m-s-b-1', MINUTE),
        [],
      ],
    ),
    [
      'leaves a machine whose row still waits for its id',
      view({ sandboxes: [row('s-a-1', 'planned')], machines: [machine('s-a-1')], busy: new Set(['s-a-1']) }),
      unknown('m-s-a-1', MINUTE),
      [],
    ],
    [
      'destroys a second machine with the name of a sandbox that has its own',
      view({ sandboxes: [ready], machines: [machine('s-a-1'), machine('s-a-1', { id: 'm-other' })] }),
      unknown('m-other', MINUTE),
      ['destroy_unknown m-other'],
    ],
  ];
  it.each(cases)('%s', (_what, seen, looks, actions) => {
    expect(brief(plan(seen, looks, NOW, LIMITS))).toEqual(actions);
  });
});

describe('lookAgain', () => {
  const sandboxes = [row('s-a-1', 'ready')];

  it('keeps the time of the first look', () => {
    const first = lookAgain(NO_LOOKS, view({ sandboxes }), NOW);
    expect(first.missing.get('s-a-1')).toBe(NOW);
    expect(lookAgain(first, view({ sandboxes }), NOW + 10).missing.get('s-a-1')).toBe(NOW);
  });

  it('forgets a suspicion that was not confirmed', () => {
    const seen = view({ sandboxes, machines: [machine('s-a-1')] });
    expect(lookAgain(missing('s-a-1', MINUTE), seen, NOW).missing.size).toBe(0);
  });

  it('takes no answer for no look', () => {
    const looks = missing('s-a-1', MINUTE);
    expect(lookAgain(looks, view({ sandboxes, machines: null }), NOW)).toBe(looks);
  });
});

describe('plan, whatever it sees', () => {
  const names = ['s-a-1', 's-b-1', 's-b-2', 's-c-1'];
  const states = ['planned', 'created', 'ready', 'stopping', 'destroying'] as const;
  const machineStates = [
    'created',
    'starting',
    'started',
    'stopping',
    'stopped',
    'failed',
    'destroying',
    'destroyed',
  ];
  const times = fc.integer({ min: NOW - 60 * MINUTE, max: NOW });
  const sandboxes = fc.uniqueArray(
    fc
      .record({ name: fc.constantFrom(...names), state: fc.constantFrom(...states), at: times })
      .map(({ name, state, at }) => row(name, state, { created_at: new Date(at).toISOString() })),
    { selector: ({ name }) => name },
  );
  const machines = fc.uniqueArray(
    fc
      .record({
        name: fc.constantFrom(...names),
        other: fc.boolean(),
        state: fc.constantFrom(...machineStates),
        at: times,
      })
      .map(({ name, other, state, at }) =>
        machine(name, { id: other ? `x-${name}` : `m-${name}`, state, createdAt: at }),
      ),
    { selector: ({ id }) => id },
  );
  const someNames = fc.subarray(names).map((picked) => new Set(picked));
  const looks = fc.record({
    missing: fc.array(fc.tuple(fc.constantFrom(...names), times)).map((pairs) => new Map(pairs)),
    unknown: fc
      .array(fc.tuple(fc.constantFrom(...names.flatMap((name) => [`m-${name}`, `x-${name}`])), times))
      .map((pairs) => new Map(pairs)),
  });
  const views = fc.record({
    sandboxes,
    machines: fc.option(machines),
    connected: someNames,
    busy: someNames,
  });

  it('acts at most once on a sandbox or machine, and never beside its worker', () => {
    fc.assert(
      fc.property(views, looks, (seen, before) => {
        const actions = plan(seen, before, NOW, LIMITS);
        expect(new Set(brief(actions).map((text) => text.split(' ')[1])).size).toBe(actions.length);
        for (const action of actions) {
          if (action.type !== 'destroy_unknown') expect(seen.busy.has(action.sandbox.name)).toBe(false);
        }
      }),
    );
  });

  it('never destroys a machine that a row wants, is young, or was seen once', () => {
    fc.assert(
      fc.property(views, looks, (seen, before) => {
        for (const action of plan(seen, before, NOW, LIMITS)) {
          if (action.type !== 'destroy_unknown') continue;
          const { id, name, createdAt } = action.machine;
          const wanted = seen.sandboxes.find((sandbox) => sandbox.name === name);
          expect(wanted === undefined || (wanted.machine_id !== null && wanted.machine_id !== id)).toBe(true);
          expect(NOW - createdAt!).toBeGreaterThanOrEqual(LIMITS.unknownGraceMs);
          expect(NOW - before.unknown.get(id)!).toBeGreaterThanOrEqual(LIMITS.lookApartMs);
        }
      }),
    );
  });

  it('never suspects a sandbox whose agent is connected or whose machine is listed running', () => {
    fc.assert(
      fc.property(views, looks, (seen, before) => {
        for (const action of plan(seen, before, NOW, LIMITS)) {
          if (action.type !== 'confirm_lost') continue;
          expect(seen.connected.has(action.sandbox.name)).toBe(false);
          const listed = seen.machines?.find(({ id }) => id === action.sandbox.machine_id);
          expect(listed === undefined || listed.state !== 'started').toBe(true);
        }
      }),
    );
  });

  it('takes every sandbox that is not ready on, unless a worker does', () => {
    fc.assert(
      fc.property(views, looks, (seen, before) => {
        const driven = new Set(
          plan(seen, before, NOW, LIMITS).flatMap((action) =>
            action.type === 'drive' ? [action.sandbox.name] : [],
          ),
        );
        for (const { name, state } of seen.sandboxes) {
          expect(driven.has(name)).toBe(state !== 'ready' && !seen.busy.has(name));
        }
      }),
    );
  });
});
