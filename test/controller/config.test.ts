import { hostname } from 'node:os';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../controller/config.ts';
import { ownAddress } from '../../controller/controller.ts';

const GOOD = {
  FLY_API_TOKEN: 'fly-secret-token',
  FLY_APP_NAME: 'cell',
  SUPABASE_URL: 'http://127.0.0.1:54321/',
  SUPABASE_SERVICE_ROLE_KEY: 'sb_secret_key',
  MOBVIBE_AGENT_SECRET: 'a-secret-of-at-least-32-characters',
  MOBVIBE_SANDBOX_IMAGE: 'sandbox:1',
  MOBVIBE_AGENT_DIAL_URL: 'ws+unix:/run/mobvibe/controller.sock:/v1/agent',
};

describe('readConfig', () => {
  it('fills in the defaults', () => {
    expect(readConfig(GOOD)).toMatchObject({
      cellApps: ['cell'],
      flyRegion: 'sjc',
      flyFlapsBaseUrl: 'https://api.machines.dev',
      supabaseUrl: 'http://127.0.0.1:54321',
      listenHost: '127.0.0.1',
      listenPort: 8080,
      stack: 'local',
      cpuKind: 'shared',
      cpus: 1,
      memoryMb: 512,
      execTimeoutMs: 300_000,
      sandboxMaxAgeMs: 1_800_000,
      cleanupIntervalMs: 60_000,
      agentListenSocket: undefined,
    });
    expect(readConfig({ ...GOOD, MOBVIBE_CELL_APPS: 'cell-2,cell-3' }).cellApps).toEqual([
      'cell-2',
      'cell-3',
    ]);
  });

  it.each([
    ...Object.keys(GOOD).map((variable) => [variable, undefined] as const),
    ...Object.keys(GOOD).map((variable) => [variable, ''] as const),
    ['FLY_APP_NAME', 'Cell_1'],
    ['MOBVIBE_CELL_APPS', 'cell-1,-cell'],
    ['MOBVIBE_CELL_APPS', 'cell-1,'],
    ['MOBVIBE_CELL_LEASE_MS', '10'],
    ['MOBVIBE_CONTROLLER_URL', 'https://controller'],
    ['FLY_MACHINE_ID', 'not an id'],
    ['MOBVIBE_CELL_APPS', 'cell-1,cell-2,cell-1'],
    ['FLY_REGION', 'San Jose'],
    ['FLY_REGION', 'sjc,'],
    ['FLY_FLAPS_BASE_URL', 'api.machines.dev'],
    ['SUPABASE_URL', 'ftp://x'],
    ['MOBVIBE_AGENT_SECRET', 'short'],
    ['MOBVIBE_AGENT_DIAL_URL', 'http://controller'],
    ['MOBVIBE_LISTEN_PORT', '65536'],
    ['MOBVIBE_LISTEN_PORT', '80.5'],
    ['MOBVIBE_AGENT_LISTEN_SOCKET', 'relative.sock'],
    ['MOBVIBE_AGENT_LISTEN_SOCKET', `/${'x'.repeat(107)}`],
    ['MOBVIBE_EGRESS_PROXY_URL', 'socks5://proxy'],
    ['MOBVIBE_STACK', 'My Stack'],
    ['MOBVIBE_CPU_KIND', 'huge'],
    ['MOBVIBE_CPUS', '0'],
    ['MOBVIBE_CPUS', '3'],
    ['MOBVIBE_MEMORY_MB', '500'],
    ['MOBVIBE_MEMORY_MB', '4096'],
    ['MOBVIBE_MEMORY_MB', 'lots'],
    ['MOBVIBE_EXEC_TIMEOUT_MS', '0'],
    ['MOBVIBE_SANDBOX_MAX_AGE_MS', '-1'],
    ['MOBVIBE_CLEANUP_INTERVAL_MS', '1e3'],
    ['MOBVIBE_SAVE_INTERVAL_MS', '60s'],
    ['MOBVIBE_START_TIMEOUT_MS', '999999999999'],
    ['MOBVIBE_JOB_POLL_MS', '1'],
    ['MOBVIBE_JOB_LEASE_MS', '1'],
    ['MOBVIBE_JOBS_AT_ONCE', '0'],
    ['MOBVIBE_LOG_LEVEL', 'loud'],
    ['MOBVIBE_SHUTDOWN_TIMEOUT_MS', 'never'],
    ['MOBVIBE_RETENTION_MS', '60000'],
    ['MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS', 'x'],
  ] as const)('names %s when it is %j', (variable, value) => {
    expect(() => readConfig({ ...GOOD, [variable]: value })).toThrow(new RegExp(`^${variable} `));
  });

  it('takes no size of machine by default that Fly would refuse', () => {
    expect(() => readConfig({ ...GOOD, MOBVIBE_CPU_KIND: 'performance' })).toThrow(
      'MOBVIBE_MEMORY_MB is "512"; expected a multiple of 2048 from 2048 to 8192 with 1 performance CPUs',
    );
    expect(
      readConfig({ ...GOOD, MOBVIBE_CPU_KIND: 'performance', MOBVIBE_CPUS: '2', MOBVIBE_MEMORY_MB: '4096' }),
    ).toMatchObject({ cpuKind: 'performance', cpus: 2, memoryMb: 4096 });
  });

  it('tells of all that is wrong at once', () => {
    expect(() => readConfig({ ...GOOD, FLY_APP_NAME: '', MOBVIBE_CPUS: 'x' })).toThrow(
      /FLY_APP_NAME[\s\S]*MOBVIBE_CPUS/,
    );
  });

  it.each(['FLY_API_TOKEN', 'SUPABASE_SERVICE_ROLE_KEY', 'MOBVIBE_AGENT_SECRET'])(
    'never repeats the value of %s',
    (variable) => {
      const secret = 'hush hush\n';
      expect(() => readConfig({ ...GOOD, [variable]: secret })).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining('hush') }),
      );
    },
  );
});

describe('ownAddress', () => {
  const NONE = { controllerUrl: undefined, flyMachineId: undefined, flyAppName: 'ctl' };
  it.each([
    ['where it listens', NONE, 'http://127.0.0.1:8080', 'http://127.0.0.1:8080'],
    [
      'by its name, where it listens on every address',
      NONE,
      'http://0.0.0.0:8080',
      `http://${hostname()}:8080`,
    ],
    ['the same with IPv6', NONE, 'http://[::]:8080', `http://${hostname()}:8080`],
    [
      'by the name of its machine on Fly',
      { ...NONE, flyMachineId: '3d8d9b2f' },
      'http://[::]:8080',
      'http://3d8d9b2f.vm.ctl.internal:8080',
    ],
    [
      'as it is told',
      { ...NONE, controllerUrl: 'http://me.internal:1', flyMachineId: '3d8d9b2f' },
      'http://[::]:8080',
      'http://me.internal:1',
    ],
  ])('is %s', (_what, config, listening, address) => {
    expect(ownAddress(config, listening)).toBe(address);
  });
});
