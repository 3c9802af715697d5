import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splitCommand } from '../../local/fly/rules/commands.ts';
import { bootOverride, parseConfig } from '../../local/fly/rules/config.ts';
import { parseConfigDuration, parseGoDuration, parseQueryDuration } from '../../local/fly/rules/durations.ts';
import type { FlyError } from '../../local/fly/rules/errors.ts';
import { afterExit } from '../../local/fly/rules/exits.ts';
import { imageRef } from '../../local/fly/rules/images.ts';
import { deniedBy } from '../../local/fly/rules/policies.ts';
import { limitOf, take } from '../../local/fly/rules/rates.ts';
import { placeInRegion } from '../../local/fly/rules/regions.ts';
import { refusal, type Verb } from '../../local/fly/rules/states.ts';
import { planStop } from '../../local/fly/rules/stops.ts';
import { newMacaroon, separateTokens, tokensOfHeader } from '../../local/fly/rules/tokens.ts';
import type { MachineConfig, MachineState } from '../../local/fly/wire.ts';

function failure(run: () => unknown): Pick<FlyError, 'status' | 'message'> {
  try {
    run();
  } catch (error) {
    return error as FlyError;
  }
  throw new Error('it did not fail');
}

describe('which call is legal when', () => {
  test.each<[Verb, MachineState, number | null]>([
    ['start', 'created', 412],
    ['start', 'stopped', null],
    ['start', 'suspended', null],
    ['start', 'suspending', null],
    ['start', 'failed', null],
    ['start', 'stopping', 412],
    ['start', 'replacing', 412],
    ['stop', 'created', null],
    ['stop', 'starting', null],
    ['stop', 'stopped', null],
    ['stop', 'destroying', 412],
    ['stop', 'replacing', 412],
    ['suspend', 'stopped', 412],
    ['exec', 'starting', 412],
    ['update', 'destroyed', 412],
    ['destroy', 'started', 412],
    ['destroy', 'starting', 412],
    ['destroy', 'created', null],
    ['destroy', 'destroyed', null],
  ])('%s on a %s machine: %s', (verb, state, status) => {
    expect(refusal(verb, { state, prepared: false })?.status ?? null).toBe(status);
  });

  test('skip_launch makes start legal from created, force makes destroy legal from anywhere', () => {
    expect(refusal('start', { state: 'created', prepared: true })).toBeNull();
    expect(refusal('destroy', { state: 'started', prepared: false }, true)).toBeNull();
  });
});

describe('what follows an exit', () => {
  const now = 1_000_000_000;
  const five = [1, 2, 3, 4, 5].map((i) => now - i * 1_000);
  test.each([
    ['the default restarts a failure', 'run', {}, 1, [], 'restart_by_policy'],
    ['the default leaves a success', 'run', {}, 0, [], 'rest'],
    ['no never restarts', 'run', { restart: { policy: 'no' } }, 1, [], 'rest'],
    ['always restarts a success', 'run', { restart: { policy: 'always' } }, 0, [], 'restart_by_policy'],
    ['a requested stop wins over always', 'stop', { restart: { policy: 'always' } }, 0, [], 'rest'],
    ['auto_destroy after a stop', 'stop', { auto_destroy: true }, 0, [], 'destroy'],
    ['restarting comes before auto_destroy', 'run', { auto_destroy: true }, 1, [], 'restart_by_policy'],
    ['retries are used up', 'run', { restart: { policy: 'on-failure', max_retries: 5 } }, 1, five, 'rest'],
    [
      'old retries are forgotten',
      'run',
      { restart: { max_retries: 1 } },
      1,
      [now - 300_000],
      'restart_by_policy',
    ],
    ['a destroy destroys', 'destroy', { restart: { policy: 'always' } }, 1, [], 'destroy'],
    ['a restart boots', 'restart', { auto_destroy: true }, 0, [], 'boot'],
  ] as const)('%s', (_what, intent, config, exit_code, restarts, expected) => {
    expect(afterExit(intent, config, { exit_code }, restarts, now)).toBe(expected);
  });
});

describe('config', () => {
  const image = 'registry.fly.io/x@sha256:1';

  test('fills in defaults and drops what Fly does not know', () => {
    expect(parseConfig({ image, auto_stop_machines: true, guest: { surprise: 1 }, restart: null })).toEqual({
      image,
      init: {},
      guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
      dns: {},
    });
    expect(parseConfig({ image, size: 'performance-2x' }).guest).toEqual({
      cpu_kind: 'performance',
      cpus: 2,
      memory_mb: 4_096,
    });
  });

  test.each([
    [{}, 400, 'config.image'],
    [{ image, env: { A: 1 } }, 400, 'env.A: 1'],
    [{ image, guest: { memory_mb: 300 } }, 400, 'config.guest.memory_mb: 300'],
    [{ image, guest: { memory_mb: 4_096 } }, 400, 'config.guest.memory_mb: 4096'],
    [{ image, guest: { cpus: 3 } }, 400, 'config.guest.cpus: 3'],
    [{ image, guest: { cpu_kind: 'fast' } }, 400, 'config.guest.cpu_kind: "fast"'],
    [{ image, restart: { policy: 'never' } }, 400, 'config.restart.policy: "never"'],
    [{ image, stop_config: { timeout: '301s' } }, 400, 'config.stop_config.timeout: "301s"'],
    [{ image, stop_config: { signal: 'SIGPIPE' } }, 400, 'config.stop_config.signal: "SIGPIPE"'],
    [{ image, files: {} }, 400, 'config.files is not an array'],
    [{ image, files: [{ guest_path: 'a', raw_value: '' }] }, 400, 'config.files[0].guest_path: "a"'],
    [
      { image, files: [{ guest_path: '/a', raw_value: 'YQ==', secret_name: 'A' }] },
      400,
      'config.files[0]: raw_value',
    ],
    [{ image, files: [{ guest_path: '/a', image_config: 'x' }] }, 501, 'config.files[0].image_config'],
    [{ image, mounts: [{ volume: 'vol_1' }] }, 501, 'config.mounts'],
    [{ image, services: [{}] }, 400, 'config.services[0].internal_port: undefined'],
    [
      { image, services: [{ internal_port: 80, ports: [{ port: 0 }] }] },
      400,
      'config.services[0].ports[0].port: 0',
    ],
    [{ image, services: [{ internal_port: 80, protocol: 'udp' }] }, 501, 'config.services[0].protocol'],
    [{ image, services: [{ internal_port: 80, autostop: 'stop' }] }, 501, 'config.services[0].autostop'],
    [
      { image, services: [{ internal_port: 80, checks: [{ type: 'tcp' }] }] },
      501,
      'config.services[0].checks',
    ],
    [
      { image, checks: { up: { type: 'http', port: 80, protocol: 'https' } } },
      501,
      'config.checks.up.protocol',
    ],
    [
      { image, checks: { up: { type: 'tcp', port: 80, interval: 'soon' } } },
      400,
      'config.checks.up.interval: "soon"',
    ],
    [{ image, checks: { up: { type: 'ping', port: 80 } } }, 400, 'config.checks.up.type: "ping"'],
    [{ image, checks: { up: { type: 'tcp' } } }, 400, 'config.checks.up.port: undefined'],
    [{ image, rootfs: { persist: 'always' } }, 501, 'config.rootfs.persist'],
  ])('%j is refused with %i', (config, status, words) => {
    const error = failure(() => parseConfig(config));
    expect([error.status, error.message]).toEqual([status, expect.stringContaining(words)]);
  });

  test('nothing that JSON can say makes it fail in another way', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (whole, part) => {
        const fields = [
          'guest',
          'init',
          'env',
          'restart',
          'stop_config',
          'metadata',
          'size',
          'rootfs',
          'files',
        ];
        for (const value of [whole, ...fields.map((field) => ({ image, [field]: part }))]) {
          try {
            parseConfig(value);
          } catch (error) {
            expect([400, 501]).toContain((error as FlyError).status);
          }
        }
      }),
    );
  });
});

test('rates: never more than the burst plus the refill gets through, and a waiter of one interval always does', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2_000), { minLength: 1, maxLength: 60 }), (gaps) => {
      const limit = limitOf('machine.create');
      let now = 0;
      let bucket: ReturnType<typeof take>['bucket'] | undefined;
      let passed = 0;
      for (const gap of gaps) {
        now += gap;
        const { bucket: next, allowed } = take(bucket, limit, now);
        if (gap >= 1_000 || bucket === undefined) expect(allowed).toBe(true);
        if (allowed) passed++;
        bucket = next;
      }
      const elapsed = now - gaps[0]!;
      expect(passed).toBeLessThanOrEqual(limit.burst + elapsed / 1_000);
    }),
  );
});

test('durations', () => {
  expect(['10s', '1m30s', '1.5s', '250ms', '0', '', '10', 'x', '-1s'].map(parseGoDuration)).toEqual([
    10_000,
    90_000,
    1_500,
    250,
    0,
    null,
    null,
    null,
    null,
  ]);
  expect([parseConfigDuration(5e9), parseConfigDuration('5s'), parseConfigDuration(null)]).toEqual([
    5_000,
    5_000,
    null,
  ]);
  expect([parseQueryDuration('5'), parseQueryDuration('5s'), parseQueryDuration('five')]).toEqual([
    5_000,
    5_000,
    null,
  ]);
});

test('a stop is planned by the call, then the config, then the defaults', () => {
  const stop_config = { signal: 'SIGTERM', timeout: '30s' };
  expect(planStop({}, {})).toEqual({ signal: 'SIGINT', graceMs: 5_000 });
  expect(planStop({ timeoutMs: 0 }, { stop_config })).toEqual({ signal: 'SIGTERM', graceMs: 30_000 });
  expect(planStop({ signal: 'SIGHUP', timeoutMs: 1 }, { stop_config })).toEqual({
    signal: 'SIGHUP',
    graceMs: 1,
  });
});

test('regions: codes, aliases and lists', () => {
  expect(['ams', 'eu', 'any', 'us', 'lhr,eu,any', undefined].map(placeInRegion)).toEqual([
    'ams',
    'ams',
    'sjc',
    'sjc',
    'lhr',
    'sjc',
  ]);
  expect(failure(() => placeInRegion('atlantis')).message).toContain('"atlantis"');
});

test.each([
  ['registry.fly.io/app:tag', 'registry.fly.io', 'app', 'tag'],
  ['registry.fly.io/app@sha256:abc', 'registry.fly.io', 'app', undefined],
  ['localhost:5000/a/b:1', 'localhost:5000', 'a/b', '1'],
  ['flyio/hello', 'docker.io', 'flyio/hello', undefined],
])('image %s', (image, registry, repository, tag) => {
  expect(imageRef(image, 'sha256:d')).toMatchObject({ registry, repository, digest: 'sha256:d' });
  expect(imageRef(image, 'sha256:d').tag).toBe(tag);
});

test('a command line is split at blanks, but for quotes and backslashes', () => {
  expect(splitCommand(`sh -c "echo \\"x\\" 'y'" a\\ b ''`)).toEqual(['sh', '-c', `echo "x" 'y'`, 'a b', '']);
  expect(failure(() => splitCommand(`echo "x`)).status).toBe(400);
});

test('both schemes of a token mean the same, and a list is several', () => {
  expect(
    ['Bearer abc', 'FlyV1 fm2_a,fm2_b', 'Bearer FlyV1 a, b,', 'Basic abc', undefined].map(tokensOfHeader),
  ).toEqual([['abc'], ['fm2_a', 'fm2_b'], ['a', 'b'], [], []]);
  expect(separateTokens('FlyV1 abc\n')).toEqual(['abc']);
});

test('a new token is read as a macaroon of Fly’s, and is another each time', () => {
  const [one, two] = [newMacaroon(), newMacaroon()];
  expect(one).not.toBe(two);
  const bytes = Buffer.from(one.replace(/^fm2_/, ''), 'base64');
  // An array of 4, a nonce of 3, a text of 21 bytes, no caveats, a signature of 32 bytes; and nothing after it.
  expect([bytes[0], bytes[1], bytes[39]]).toEqual([0x94, 0x93, 0xd9]);
  expect(bytes.subarray(41, 62).toString()).toBe('https://api.fly.io/v1');
  expect([bytes[62], bytes[63], bytes[64], bytes.length]).toEqual([0x90, 0xc4, 32, 97]);
});

describe('what an image boots', () => {
  test.each([
    [{}, {}],
    [{ exec: ['e'], entrypoint: ['p'], cmd: ['c'] }, { exec: ['e'] }],
    [{ entrypoint: ['p'], cmd: ['c'] }, { exec: ['p', 'c'] }],
    [{ entrypoint: ['p'] }, { exec: ['p'] }],
    [{ cmd: ['c'] }, { cmd: ['c'] }],
    [{ exec: [], entrypoint: [], cmd: [] }, {}],
  ])('%j', (init, expected) => {
    expect(bootOverride(init)).toEqual(expected);
  });
});

describe('network policies', () => {
  const config = { metadata: { role: 'web', tier: '1' } } as unknown as MachineConfig;
  const rule = (direction: string) => ({ action: 'allow', direction, ports: [] });
  const policy = (selector: Record<string, unknown>, ...directions: string[]) => ({
    ...{ id: 'p', name: 'p', selector, rules: directions.map(rule) },
  });
  test.each([
    ['none deny nothing', [], ''],
    ['without rules deny nothing', [policy({ all: true })], ''],
    ['deny the directions that they have rules for', [policy({ all: true }, 'egress')], 'egress'],
    ['add up', [policy({ all: true }, 'egress'), policy({}, 'ingress')], 'ingress egress'],
    ['hold for any listed machine', [policy({ machines: [{ id: 'b' }, { id: 'a' }] }, 'egress')], 'egress'],
    ['do not hold for others', [policy({ machines: [{ id: 'b' }] }, 'egress')], ''],
    ['hold where all metadata match', [policy({ metadata: { role: 'web', tier: '1' } }, 'egress')], 'egress'],
    ['do not hold where one differs', [policy({ metadata: { role: 'web', tier: '2' } }, 'egress')], ''],
    ['need all of a selector', [policy({ machines: [{ id: 'a' }], metadata: { role: 'x' } }, 'egress')], ''],
  ])('%s', (_what, policies, denied) => {
    expect(deniedBy(policies, { id: 'a', config })).toEqual({
      deniesIngress: denied.includes('ingress'),
      deniesEgress: denied.includes('egress'),
    });
  });
});
