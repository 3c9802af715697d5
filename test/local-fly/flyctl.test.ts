import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../local/fly/clock.ts';
import { immediateTimings } from '../../local/fly/timings.ts';
import { startBench, temporaryFolder, token } from './harness.ts';

const program = ['flyctl', 'fly'].find((name) => spawnSync(name, ['version']).status === 0);
const missing = program === undefined ? 'no flyctl on PATH' : undefined;
const RUN_MS = 60_000;
/** No macaroon's prefix: flyctl drops what it then can't decode. */
const personal = 'a-persons-token';

/** flyctl against a local Fly of its own, with flyctl's own variables; none of its side traffic leaves this computer. */
async function startFlyctl() {
  const tokens = [token, personal];
  const bench = await startBench({ tokens, clock: systemClock as never, timings: immediateTimings });
  const { url } = bench.fly;
  const home = await temporaryFolder();
  const controller = new AbortController();
  onTestFinished(() => controller.abort());

  async function run(args: string[], as = personal): Promise<{ code: number; out: string }> {
    const env = {
      PATH: process.env.PATH,
      ...{ HOME: home, NO_COLOR: '1', CI: '1' },
      ...{ FLY_FLAPS_BASE_URL: url, FLY_API_BASE_URL: url, FLY_UIEX_BASE_URL: url },
      ...{ FLY_METRICS_BASE_URL: url, FLY_SYNTHETICS_BASE_URL: url },
      ...{ FLY_NO_UPDATE_CHECK: '1', FLY_NO_INCIDENTS_CHECK: '1', FLY_SEND_METRICS: '0' },
      ...{ FLY_SYNTHETICS_AGENT: '0', HTTPS_PROXY: 'http://127.0.0.1:9', NO_PROXY: '127.0.0.1' },
      FLY_ACCESS_TOKEN: as,
    };
    const options = { env, timeout: RUN_MS, signal: controller.signal };
    const result = await promisify(execFile)(program!, args, options).catch((error) => error);
    return { code: result.code ?? 0, out: `${result.stdout}${result.stderr}` };
  }

  /** Must end well. */
  async function fly(...args: string[]): Promise<string> {
    const { code, out } = await run(args);
    expect(code, `fly ${args.join(' ')}\n${out}`).toBe(0);
    return out;
  }
  const json = async (...args: string[]) => JSON.parse(await fly(...args, '--json'));
  return { bench, run, fly, json };
}

const flyctlTest = (name: string, body: () => Promise<void>) =>
  test(name, { timeout: 3 * RUN_MS }, async ({ skip }) => {
    skip(missing !== undefined, missing);
    await body();
  });

flyctlTest('flyctl makes, shows, changes and destroys machines', async () => {
  const { fly, json, run, bench } = await startFlyctl();
  await fly('apps', 'create', 'a1', '--org', 'personal', '--network', 'net-1');
  expect((await json('apps', 'list')).map(({ Name }: { Name: string }) => Name)).toEqual(['a1']);

  await fly('machine', 'create', 'registry.fly.io/test:1', '-a', 'a1', '--name', 'one', '--region', 'ams');
  const [made] = await json('machine', 'list', '-a', 'a1');
  expect(made).toMatchObject({ name: 'one', state: 'created', region: 'ams', host_status: 'ok' });
  await fly('machine', 'start', made.id, '-a', 'a1');
  await fly('machine', 'wait', made.id, '-a', 'a1');
  // Without an app it asks GraphQL whose machine it is.
  expect(await fly('machine', 'status', made.id)).toMatch(/State: started/);
  await fly('machine', 'exec', made.id, 'true', '-a', 'a1');
  await fly('machine', 'stop', made.id, '-a', 'a1', '-w', '10s');
  expect(await bench.state(made.id)).toBe('stopped');
  const update = ['--image', 'registry.fly.io/test:2', '--yes', '--detach', '--skip-start'];
  await fly('machine', 'update', made.id, '-a', 'a1', ...update);
  const after = (await bench.call('GET', `/v1/apps/a1/machines/${made.id}`)).body;
  expect(after).toMatchObject({ image_ref: { tag: '2' } });
  expect(after.instance_id).not.toBe(made.instance_id);

  const launched = ['machine', 'run', 'registry.fly.io/test:1', '-a', 'a1', '--name', 'two', '--detach'];
  await fly(...launched, '--region', 'ams');
  const two = (await json('machine', 'list', '-a', 'a1')).find(
    ({ name }: { name: string }) => name === 'two',
  );
  expect(two.state).toBe('started');
  expect((await run(['machine', 'destroy', two.id, '-a', 'a1'])).out).toContain('use --force');
  await fly('machine', 'destroy', two.id, '-a', 'a1', '--force');
  expect(await bench.state(two.id)).toMatch(/^destroy/);
  // Nobody is left holding a lease.
  expect((await bench.call('GET', `/v1/apps/a1/machines/${made.id}/lease`)).status).toBe(404);

  await fly('apps', 'destroy', 'a1', '--yes');
  expect(await json('apps', 'list')).toEqual([]);
  const gone = await run(['machine', 'list', '-a', 'a1']);
  expect([gone.code, gone.out]).toEqual([1, expect.stringContaining('Could not find App "a1"')]);
});

flyctlTest('flyctl sets secrets and gives addresses', async () => {
  const { fly, json, run, bench } = await startFlyctl();
  await fly('apps', 'create', 'a1', '--org', 'personal');
  await fly('secrets', 'set', 'A=1', 'B=2', '-a', 'a1', '--stage');
  await fly('secrets', 'unset', 'A', '-a', 'a1', '--stage');
  expect(await json('secrets', 'list', '-a', 'a1')).toMatchObject([{ name: 'B', status: 'Staged' }]);
  const secrets = await bench.call('GET', '/v1/apps/a1/secrets?show_secrets=true');
  expect(secrets.body.secrets).toMatchObject([{ name: 'B', value: '2' }]);

  await fly('ips', 'allocate-v4', '--shared', '-a', 'a1');
  await fly('ips', 'allocate-v6', '-a', 'a1');
  await fly('ips', 'allocate-v6', '--private', '--network', 'net-1', '-a', 'a1');
  const ips: { Type: string; Address: string }[] = await json('ips', 'list', '-a', 'a1');
  expect(ips.map(({ Type }) => Type)).toEqual(['v6', 'private_v6', 'shared_v4']);
  await fly('ips', 'release', ips[0]!.Address, '-a', 'a1');
  const left = (await bench.call('GET', '/v1/apps/a1/ip_assignments')).body.ips;
  expect(left.map(({ ip }: { ip: string }) => ip)).not.toContain(ips[0]!.Address);
  expect(left).toHaveLength(2);

  await fly('ips', 'allocate-egress', '-a', 'a1', '--region', 'ams', '--yes');
  const [, address] = /(2001:db8:e::[0-9a-f:]+)/.exec(await fly('ips', 'list', '-a', 'a1')) ?? [];
  await fly('ips', 'release-egress', address!, '-a', 'a1');
  const shown = await fly('ips', 'list', '-a', 'a1');
  expect(shown).not.toContain(address);
  expect(shown).toContain('203.0.113.');
  const nowhere = await run(['ips', 'allocate-egress', '-a', 'a1', '--region', 'xyz', '--yes']);
  expect([nowhere.code, nowhere.out]).toEqual([1, expect.stringContaining('"xyz" is not a region')]);
  expect(await fly('platform', 'regions')).toContain('Amsterdam');
});

flyctlTest('flyctl with a deploy token is kept to its app until that is revoked', async () => {
  const { bench, fly, run } = await startFlyctl();
  for (const name of ['a1', 'a2']) await fly('apps', 'create', name, '--org', 'personal');
  const { body } = await bench.call('POST', '/v1/apps/a1/deploy_token', { expiry: '1h' });
  const as = async (...args: string[]) => {
    const { code, out } = await run(args, body.token);
    return code === 0 ? 'done' : out;
  };
  expect(await as('machine', 'list', '-a', 'a1')).toBe('done');
  expect(await as('ips', 'allocate-v6', '-a', 'a1')).toBe('done');
  expect(await as('machine', 'list', '-a', 'a2')).toContain('not authorized to access app "a2"');
  expect(await as('ips', 'list', '-a', 'a2')).toContain('Not authorized to access this app');
  expect(await as('apps', 'create', 'a3', '--org', 'personal')).toContain('not authorized');

  const [, id] = /^ ([0-9a-f]{16}) /m.exec(await fly('tokens', 'list', '-a', 'a1')) ?? [];
  expect(await fly('tokens', 'revoke', id!)).toContain(`Revoked ${id}`);
  expect(await as('machine', 'list', '-a', 'a1')).toContain('unauthorized');
});
