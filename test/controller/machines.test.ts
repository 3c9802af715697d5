import { describe, expect, it } from 'vitest';
import { machineLost } from '../../controller/sessions/failures.ts';
import { createMachines, hasEnded, isGone, type MachineView } from '../../controller/sessions/machines.ts';
import { parseSandboxName } from '../../controller/sessions/names.ts';
import { createFlyClient } from '../../fly/index.ts';

const machines = createMachines(createFlyClient({ token: 'unused', baseUrl: 'http://127.0.0.1:9' }), {
  cellApps: ['cell'],
  stack: 'prod',
  agentSecret: 'a-secret-of-at-least-32-characters',
  sandboxImage: 'sandbox:1',
  agentDialUrl: 'wss://controller/v1/agent',
  egressProxyUrl: undefined,
  agentOrphanTimeoutMs: 1_000,
});

function machine(fields: Partial<MachineView>): MachineView {
  const metadata = { mobvibe_stack: 'prod', mobvibe_session: 'a-b', mobvibe_sandbox: 's-a-b-1' };
  return { id: 'm', name: 's-a-b-1', state: 'started', region: 'sjc', createdAt: 0, metadata, ...fields };
}

describe('isOurs', () => {
  it('is true of a machine with our marks and name', () => {
    expect(machines.isOurs(machine({}))).toBe(true);
  });

  it.each<[string, Partial<MachineView>]>([
    ['another stack', { metadata: { mobvibe_stack: 'preview', mobvibe_sandbox: 's-a-b-1' } }],
    ['no stack', { metadata: { mobvibe_sandbox: 's-a-b-1' } }],
    ['the marks of another sandbox', { metadata: { mobvibe_stack: 'prod', mobvibe_sandbox: 's-a-b-2' } }],
    ['no marks', { metadata: {} }],
    ['marks that Fly does not tell', { metadata: undefined }],
    ['a name that Fly does not tell', { name: undefined }],
    [
      'a name that is none of ours',
      { name: 'web', metadata: { mobvibe_stack: 'prod', mobvibe_sandbox: 'web' } },
    ],
  ])('is false with %s', (_what, fields) => {
    expect(machines.isOurs(machine(fields))).toBe(false);
  });
});

describe('parseSandboxName', () => {
  it.each([
    ['s-a-1', { session: 'a', incarnation: 1 }],
    ['s-a-b-12', { session: 'a-b', incarnation: 12 }],
    ['s-1-2-3', { session: '1-2', incarnation: 3 }],
    ['s-a', undefined],
    ['s-a-0', undefined],
    ['s-a-01', undefined],
    ['s--a-1', undefined],
    ['s-A-1', undefined],
    ['x-a-1', undefined],
    [`s-${'a'.repeat(49)}-1`, undefined],
  ])('of %s is %j', (name, parts) => {
    expect(parseSandboxName(name)).toEqual(parts);
  });
});

describe('Fly’s word', () => {
  it.each([
    ['destroyed', true, true],
    ['stopped', true, false],
    ['failed', true, false],
    ['destroying', false, false],
    ['created', false, false],
    ['started', false, false],
    ['something-new', false, false],
  ])('%s: ended %j, gone %j', (state, ended, gone) => {
    expect(hasEnded(machine({ state }))).toBe(ended);
    expect(isGone(machine({ state }))).toBe(gone);
  });

  it('that there is no such machine is both', () => {
    expect([hasEnded(null), isGone(null)]).toEqual([true, true]);
  });
});

describe('what became of a machine that has ended', () => {
  it.each<[string, MachineView | null, string, RegExp]>([
    ['is gone', null, 'machine_lost', /gone$/],
    ['stopped', machine({ state: 'stopped' }), 'machine_lost', /stopped$/],
    [
      'ended with a code',
      machine({ state: 'stopped', exit: { code: 70, oomKilled: false } }),
      'machine_lost',
      /exit code 70$/,
    ],
    [
      'was killed for memory',
      machine({ state: 'destroyed', exit: { code: 137, oomKilled: true } }),
      'out_of_memory',
      /its memory was used up$/,
    ],
  ])('%s', (_what, view, code, detail) => {
    expect(machineLost(view, 'It ended')).toMatchObject({ code, detail: expect.stringMatching(detail) });
  });
});
