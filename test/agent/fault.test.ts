import { expect, test } from 'vitest';
import { ERRORS } from '../../controller/errors.ts';
import { Fault, STATUS, toFault } from '../../image/agent/fault.ts';
import { fileFault } from '../../image/agent/files/fault.ts';
import { takeSettings } from '../../image/agent/settings.ts';

test('every code of the agent is one of the controller, with the same status', () => {
  const table = Object.fromEntries(
    Object.keys(STATUS).map((code) => [code, ERRORS[code as keyof typeof ERRORS][0]]),
  );
  expect(STATUS).toEqual(table);
});

test('an errno becomes the code that says what it means', () => {
  const codeOf = (code: string) => fileFault(Object.assign(new Error(code), { code }), 'p').code;
  expect(
    ['ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY', 'ENOSPC', 'ENAMETOOLONG', 'EIO'].map(codeOf),
  ).toEqual([
    'file_not_found',
    'not_a_directory',
    'not_a_file',
    'file_exists',
    'directory_not_empty',
    'disk_full',
    'invalid_path',
    'internal',
  ]);
  expect(toFault(Object.assign(new Error('full'), { code: 'ENOSPC' })).code).toBe('disk_full');
  const fault = new Fault('exec_ended', 'Exec a has ended', { field: 'id' });
  expect(toFault(fault)).toBe(fault);
  expect(fault.toWire()).toEqual({ code: 'exec_ended', detail: 'Exec a has ended', field: 'id' });
});

test('settings are taken out of the environment, and a bad one is named', () => {
  const env = {
    MOBVIBE_AGENT_DIAL_URL: 'ws://c',
    MOBVIBE_AGENT_TOKEN: 'secret',
    MOBVIBE_SANDBOX: 's-a-1',
    MOBVIBE_ANYTHING: 'x',
    PATH: '/bin',
  };
  const given: NodeJS.ProcessEnv = { ...env };
  expect(takeSettings(given)).toMatchObject({
    token: 'secret',
    orphanTimeoutMs: 1_800_000,
    workspaceDir: '/workspace',
  });
  expect(given).toEqual({ PATH: '/bin' });
  for (const value of ['0', '-1', '1.5', 'soon']) {
    expect(() => takeSettings({ ...env, MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS: value })).toThrow(
      `MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS must be a whole number of milliseconds above 0, it is "${value}"`,
    );
  }
});
