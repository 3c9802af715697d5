import { describe, expect, test } from 'vitest';
import { cellNetwork, everyCellClosed, noIngress, noPublicAddress } from '../../infra/policy/cells.ts';
import { imageByDigest, sandboxesEnd, sizeWithinLimit } from '../../infra/policy/machines.ts';
import { productionProtected } from '../../infra/policy/production.ts';
import type { FlyType, Seen } from '../../infra/policy/resource.ts';

const CELL = 'mobvibe-prod-cell-1';
const CONTROLLER = 'mobvibe-prod-ctl';
const DIGEST = `registry.fly.io/x@sha256:${'a'.repeat(64)}`;

function seen(type: FlyType, props: Seen['props'], { stack = 'prod', protect = false } = {}): Seen {
  const token = `pulumi-nodejs:dynamic/fly:${type}`;
  const urn = `urn:pulumi:${stack}::mobvibe::mobvibe:infra:Platform$${token}::one`;
  return { type: token, urn, name: 'one', props, opts: { protect } };
}
/** What no rule is about: each must leave it alone, whatever its properties are. */
const other: Seen = {
  type: 'command:local:Command',
  urn: 'urn:pulumi:prod::mobvibe::command:local:Command::x',
  name: 'x',
  props: { name: CELL, app: CELL, type: 'v4', rules: 'none' },
  opts: { protect: false },
};

describe('a cell is on a network of its own', () => {
  const judge = (props: Seen['props']) => cellNetwork(seen('App', props));
  test('its network is called as it is, and an app beside it is on none, or on one of another name', () => {
    expect(judge({ name: CELL, network: CELL })).toEqual([]);
    expect(judge({ name: CONTROLLER })).toEqual([]);
    expect(judge({ name: CONTROLLER, network: 'backoffice' })).toEqual([]);
    expect(cellNetwork(other)).toEqual([]);
  });
  test.each([undefined, '', 'default', 'mobvibe-prod-cell-2'])('not on %j', (network) => {
    const [sentence, ...more] = judge({ name: CELL, network });
    expect(more).toEqual([]);
    expect(sentence).toContain(`${CELL} is on the`);
    expect(sentence).toContain(network ? `"${network}"` : "organisation's network");
  });
  test('nothing else is put on it', () => {
    expect(judge({ name: CONTROLLER, network: CELL })).toEqual([
      `${CONTROLLER} is on the network of the cell "${CELL}": only sandboxes may be there`,
    ]);
  });
});

describe('a cell has no public address', () => {
  test.each(['v4', 'shared_v4', 'v6', 'v8'])('%s', (type) => {
    expect(noPublicAddress(seen('IpAddress', { app: CELL, type }))).toEqual([
      `the cell ${CELL} is given a public address, ${type}`,
    ]);
    expect(noPublicAddress(seen('IpAddress', { app: CONTROLLER, type }))).toEqual([]);
  });
  test('Flycast is no public one', () => {
    expect(noPublicAddress(seen('IpAddress', { app: CELL, type: 'private_v6' }))).toEqual([]);
    expect(noPublicAddress(other)).toEqual([]);
  });
});

const rule = (direction: string, ...ports: number[]) => ({
  action: 'allow',
  direction,
  ports: ports.map((port) => ({ protocol: 'tcp', port })),
});
const policy = (props: Seen['props'] = {}) =>
  seen('NetworkPolicy', {
    app: CELL,
    name: 'sandboxes',
    selector: { all: true },
    rules: [rule('ingress', 9), rule('egress', 53, 8081)],
    ...props,
  });

describe('nothing comes into a cell', () => {
  test.each([
    [[rule('ingress', 9)]],
    [[rule('ingress')]],
    [[rule('egress', 22)]],
    [[{ direction: 'ingress' }]],
  ])('nothing with %j', (rules) => expect(noIngress(policy({ rules }))).toEqual([]));
  test('each port that is let in is named', () => {
    expect(
      noIngress(policy({ name: 'debug', rules: [rule('ingress', 9, 22), rule('ingress', 80)] })),
    ).toEqual([
      `the policy "debug" lets tcp 22 into the cell ${CELL}`,
      `the policy "debug" lets tcp 80 into the cell ${CELL}`,
    ]);
  });
  test('the controller is reached', () => {
    expect(noIngress(policy({ app: CONTROLLER, rules: [rule('ingress', 443)] }))).toEqual([]);
    expect(noIngress(other)).toEqual([]);
  });
});

describe('every cell is closed in both directions', () => {
  const cell = seen('App', { name: CELL, network: CELL });
  const second = seen('App', { name: 'mobvibe-prod-cell-2' });
  const open = (name: string, direction: string) =>
    `no network policy of the cell ${name} is for all its machines' ${direction}`;

  test('by one policy, or by two', () => {
    expect(everyCellClosed([cell, policy(), seen('App', { name: CONTROLLER }), other])).toEqual([]);
    const halves = [policy({ rules: [rule('ingress')] }), policy({ rules: [rule('egress', 53)] })];
    expect(everyCellClosed([...halves, cell])).toEqual([]);
  });
  test('not without one, by one of another cell, or by one for some machines', () => {
    expect(everyCellClosed([cell])).toEqual([open(CELL, 'ingress'), open(CELL, 'egress')]);
    expect(everyCellClosed([cell, second, policy()])).toEqual([
      open('mobvibe-prod-cell-2', 'ingress'),
      open('mobvibe-prod-cell-2', 'egress'),
    ]);
    expect(everyCellClosed([cell, policy({ selector: { metadata: { a: 'b' } } })])).toHaveLength(2);
  });
  test('not by half of one', () => {
    expect(everyCellClosed([cell, policy({ rules: [rule('ingress')] })])).toEqual([open(CELL, 'egress')]);
    expect(everyCellClosed([cell, policy({ rules: [rule('egress')] })])).toEqual([open(CELL, 'ingress')]);
  });
});

const machine = (config: Seen['props'], app = CONTROLLER) => seen('Machine', { app, config });

describe('images are named by digest', () => {
  test('the machine’s own and the sandboxes’', () => {
    expect(imageByDigest(machine({ image: DIGEST, env: { MOBVIBE_SANDBOX_IMAGE: DIGEST } }))).toEqual([]);
    expect(imageByDigest(machine({ image: DIGEST }))).toEqual([]);
    expect(imageByDigest(other)).toEqual([]);
  });
  test.each(['node', 'registry.fly.io/x:latest', `${DIGEST}0`, DIGEST.slice(0, -1), `${DIGEST}:latest`])(
    'not %s',
    (image) => {
      const sentence = (field: string) =>
        `${field} is "${image}": an image is named by its digest, name@sha256:…`;
      expect(imageByDigest(machine({ image }))).toEqual([sentence('config.image')]);
      const env = { MOBVIBE_SANDBOX_IMAGE: image };
      expect(imageByDigest(machine({ image: DIGEST, env }))).toEqual([
        sentence('config.env.MOBVIBE_SANDBOX_IMAGE'),
      ]);
    },
  );
  test('other variables, which may be secret, are not named', () => {
    const [sentence] = imageByDigest(machine({ image: 'node', env: { KEY: 'hush', MOBVIBE_KEY: 'hush' } }));
    expect(sentence).not.toContain('hush');
  });
});

describe('sizes are within the limits', () => {
  const limits = { maxCpus: 4, maxMemoryMb: 4096, cpuKinds: ['shared'] };
  const judge = (config: Seen['props']) => sizeWithinLimit(machine(config), limits);

  test('up to them, and where nothing is said', () => {
    expect(judge({ guest: { cpu_kind: 'shared', cpus: 4, memory_mb: 4096 } })).toEqual([]);
    expect(judge({ env: { MOBVIBE_CPUS: '4', MOBVIBE_MEMORY_MB: '4096' } })).toEqual([]);
    expect(judge({})).toEqual([]);
    expect(sizeWithinLimit(other, limits)).toEqual([]);
  });
  test('above one, it is named with its value and the limit', () => {
    expect(judge({ guest: { cpu_kind: 'performance', cpus: 5, memory_mb: 4352 } })).toEqual([
      'config.guest.cpu_kind is performance, and only shared may be',
      'config.guest.cpus is 5, above the limit of 4',
      'config.guest.memory_mb is 4352, above the limit of 4096',
    ]);
  });
  test('that of a sandbox as well', () => {
    const env = { MOBVIBE_CPU_KIND: 'performance', MOBVIBE_CPUS: '16', MOBVIBE_MEMORY_MB: 'much' };
    expect(judge({ guest: {}, env })).toEqual([
      'config.env.MOBVIBE_CPU_KIND is performance, and only shared may be',
      'config.env.MOBVIBE_CPUS is 16, above the limit of 4',
      'config.env.MOBVIBE_MEMORY_MB is much, above the limit of 4096',
    ]);
  });
});

describe('a machine of a cell is gone when it ends', () => {
  const ends = { auto_destroy: true, restart: { policy: 'no' } };
  test('and so it says', () => {
    expect(sandboxesEnd(machine(ends, CELL))).toEqual([]);
    expect(sandboxesEnd(machine({ restart: { policy: 'always' } }, CONTROLLER))).toEqual([]);
    expect(sandboxesEnd(other)).toEqual([]);
  });
  test.each([
    [{ ...ends, auto_destroy: false }, 'config.auto_destroy is false'],
    [{ restart: ends.restart }, 'config.auto_destroy is undefined'],
    [{ ...ends, restart: { policy: 'always' } }, 'config.restart.policy is always'],
    [{ auto_destroy: true }, 'config.restart.policy is not set'],
  ])('not with %j', (config, words) => {
    expect(sandboxesEnd(machine(config, CELL))).toEqual([expect.stringContaining(words)]);
  });
});

describe('apps of production are protected', () => {
  const app = (stack: string, protect: boolean) => seen('App', { name: CONTROLLER }, { stack, protect });
  test('they are, and those of other stacks need not be', () => {
    expect(productionProtected(app('prod', true), { stacks: ['prod'] })).toEqual([]);
    expect(productionProtected(app('pr-7', false), { stacks: ['prod'] })).toEqual([]);
    expect(productionProtected(other, { stacks: ['prod'] })).toEqual([]);
  });
  test('one that is not is named, with what to do', () => {
    expect(productionProtected(app('live', false), { stacks: ['prod', 'live'] })).toEqual([
      `${CONTROLLER} of the production stack live is not protected: pulumi config set protect true`,
    ]);
  });
});
