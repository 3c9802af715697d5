import { describe, expect, test } from 'vitest';
import { readDocument } from '../../local/fly/graphql/document.ts';
import { type Bench, startBench, token } from './harness.ts';

/** Asks as flyctl does. */
function graphql({ call }: Bench, authorization = `Bearer ${token}`) {
  return async (query: string, variables: Record<string, unknown> = {}) => {
    const { status, body } = await call('POST', '/graphql', { query, variables }, { authorization });
    expect(status).toBe(200);
    return body;
  };
}

test.each([
  [
    'query ($n: String!) { appcompact:app(name: $n) { id role { name } } }',
    ['app', 'appcompact', 'id role name'],
  ],
  [
    'mutation($i: X!) { allocateIpAddress(input: $i) { app { id }, v4 } }',
    ['allocateIpAddress', 'allocateIpAddress', 'app id v4'],
  ],
  ['{ apps(type: "a } (", first: 200) { nodes { size: full } } }', ['apps', 'apps', 'nodes full']],
  ['{ viewer { ... on User { id } } }', ['viewer', 'viewer', '... on User id']],
  ['', null],
  ['{', null],
])('reads %j', (text, expected) => {
  const asked = readDocument(text);
  expect(asked && [asked.field, asked.as, asked.below.join(' ')]).toEqual(expected);
});

/** What flyctl's documents select of an app (superfly/fly-go at v0.9.6, `resource_apps.go`). */
const compact = `id internalNumericId name hostname cnameTarget deployed network status appUrl platformVersion
  organization { id internalNumericId slug paidPlan } postgresAppRole: role { name }`;

describe('apps', () => {
  test('by name, under whatever alias, with the types that Go expects', async () => {
    const bench = await startBench();
    await bench.call('POST', '/v1/apps', { name: 'a1', org_slug: 'acme', network: 'net-1' });
    const ask = graphql(bench);
    const query = `query ($appName: String!) { appcompact:app(name: $appName) { ${compact} } }`;
    const { data, errors } = await ask(query, { appName: 'a1' });
    expect(errors).toBeUndefined();
    expect(data.appcompact).toMatchObject({
      ...{ id: 'a1', name: 'a1', network: 'net-1', status: 'pending', deployed: false },
      ...{ internalNumericId: expect.any(Number), platformVersion: 'machines', postgresAppRole: null },
      organization: { id: 'acme', slug: 'acme', internalNumericId: '1', paidPlan: false },
    });
    await bench.create();
    const network = 'query ($appName: String!) { app(name: $appName) { network deployed } }';
    expect((await ask(network, { appName: 'a1' })).data.app).toMatchObject({
      network: 'net-1',
      deployed: true,
    });
    expect(await ask(network, { appName: 'none' })).toEqual({
      data: null,
      errors: [{ message: 'Could not find App "none"' }],
    });
  });

  test('in a list, of one organisation or all', async () => {
    const bench = await startBench();
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    await bench.call('POST', '/v1/apps', { name: 'a2', org_slug: 'acme' });
    const query = `query($org: ID, $after: String) { apps(type: "container", first: 200, after: $after, organizationId: $org) {
      pageInfo { hasNextPage endCursor } nodes { id name network currentRelease { createdAt status } } } }`;
    const names = async (variables: object) => {
      const { data } = await graphql(bench)(query, { ...variables });
      expect(data.apps.pageInfo.hasNextPage).toBe(false);
      return data.apps.nodes.map(({ name, network }: { name: string; network: string }) => [name, network]);
    };
    expect(await names({})).toEqual([
      ['a1', null],
      ['a2', null],
    ]);
    expect(await names({ org: 'acme' })).toEqual([['a2', null]]);
  });

  test('with the image that a reference resolves to; its size is a text of digits', async () => {
    const bench = await startBench();
    const { image_ref } = await bench.create({ config: { image: 'registry.fly.io/sandbox:1' } });
    const query = `query ($appName: String!, $imageRef: String!) { app(name: $appName) { id image(ref: $imageRef) {
      id digest ref compressedSize: compressedSizeFull manifest } } }`;
    const { data } = await graphql(bench)(query, { appName: 'a1', imageRef: 'registry.fly.io/sandbox:1' });
    expect(data.app.image).toMatchObject({ digest: image_ref.digest, compressedSize: '0', manifest: null });
  });
});

test('a machine by its id alone', async () => {
  const bench = await startBench();
  const { id } = await bench.create({ name: 'one' });
  const query =
    'query ($machineId: String!) { gqlmachine:machine(machineId: $machineId) { id name app { name organization { id slug } } } }';
  const ask = graphql(bench);
  expect((await ask(query, { machineId: id })).data.gqlmachine).toMatchObject({
    ...{ id, name: 'one' },
    app: { name: 'a1', organization: { slug: 'personal' } },
  });
  expect((await ask(query, { machineId: 'none' })).errors[0].message).toContain('machine not found');
});

test('addresses are given, listed and taken back as over REST', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const ask = graphql(bench);
  const allocate =
    'mutation($input: AllocateIPAddressInput!) { allocateIpAddress(input: $input) { ipAddress { id address type region createdAt } } }';
  const { address, type } = (
    await ask(allocate, { input: { appId: 'a1', type: 'private_v6', region: '', network: 'net-1' } })
  ).data.allocateIpAddress.ipAddress;
  expect([address, type]).toEqual([expect.stringMatching(/^fdaa:/), 'private_v6']);
  const shared =
    'mutation($input: AllocateIPAddressInput!) { allocateIpAddress(input: $input) { app { sharedIpAddress } } }';
  const { sharedIpAddress } = (await ask(shared, { input: { appId: 'a1', type: 'shared_v4', region: '' } }))
    .data.allocateIpAddress.app;

  const list = `query ($appName: String!) { app(name: $appName) { ipAddresses { nodes { id address type region createdAt
    network { name organization { slug } } serviceName } } sharedIpAddress } }`;
  const { app } = (await ask(list, { appName: 'a1' })).data;
  expect(app.sharedIpAddress).toBe(sharedIpAddress);
  expect(app.ipAddresses.nodes).toMatchObject([{ address, type, network: { name: 'net-1' } }]);
  const rest = (await bench.call('GET', '/v1/apps/a1/ip_assignments')).body.ips;
  expect(rest.map(({ ip }: { ip: string }) => ip)).toEqual([address, sharedIpAddress]);

  const release =
    'mutation($input: ReleaseIPAddressInput!) { releaseIpAddress(input: $input) { clientMutationId } }';
  const input = { appId: 'a1', ipAddressId: null, ip: address };
  expect((await ask(release, { input })).errors).toBeUndefined();
  expect((await ask(release, { input })).errors[0].message).toContain('not found');
  expect((await ask(allocate, { input: { appId: 'a1', type: 'v5' } })).errors[0].message).toContain('"v5"');
});

test('an app’s tokens are listed and revoked by who may do everything', async () => {
  const bench = await startBench({ tokens: [token, { token: 'org-token', org: 'personal' }] });
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const made = (await bench.call('POST', '/v1/apps/a1/deploy_token', { expiry: '1h' })).body.token;
  const asIt = { authorization: made };
  const list =
    'query ($appName: String!) { appLimitedAccessTokens: app(name: $appName) { limitedAccessTokens { nodes { id name token expiresAt revokedAt user { email } } } } }';
  const listed = async () =>
    (await graphql(bench)(list, { appName: 'a1' })).data.appLimitedAccessTokens.limitedAccessTokens.nodes;
  const [{ id, revokedAt, token: shown }] = await listed();
  expect([revokedAt, shown]).toEqual([null, '']);
  const revoke =
    'mutation($input:DeleteLimitedAccessTokenInput!) { deleteLimitedAccessToken(input: $input) { token } }';
  for (const less of [made, 'Bearer org-token']) {
    const { errors } = await graphql(bench, less)(revoke, { input: { id } });
    expect(errors[0].message).toBe('Not authorized to access this deletelimitedaccesstoken');
  }
  expect((await bench.call('GET', '/v1/apps/a1', undefined, asIt)).status).toBe(200);
  expect((await graphql(bench)(revoke, { input: { id } })).errors).toBeUndefined();
  expect((await bench.call('GET', '/v1/apps/a1', undefined, asIt)).status).toBe(401);
  expect(await listed()).toMatchObject([{ id, revokedAt: expect.stringMatching(/Z$/) }]);
});

test('addresses to go out by are given in pairs, listed and released', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const ask = graphql(bench);
  const allocate = 'mutation($input: X!) { allocateEgressIpAddress(input: $input) { v4, v6 } }';
  const release = 'mutation($input: X!) { releaseEgressIpAddress(input: $input) { v4 v6 clientMutationId } }';
  const list =
    'query($appName: String!) { app(name: $appName) { egressIpAddresses { nodes { id ip version } } } }';
  const listed = async () =>
    (await ask(list, { appName: 'a1' })).data.app.egressIpAddresses.nodes.map(({ ip }: { ip: string }) => ip);
  const input = { appId: 'a1', machineId: '', region: 'ams' };
  const { v4, v6 } = (await ask(allocate, { input })).data.allocateEgressIpAddress;
  expect(await listed()).toEqual([v4, v6]);
  await ask(release, { input: { appId: 'a1', machineId: '', ip: v6 } });
  expect(await listed()).toEqual([v4]);
  const refused = async (query: string, more: object) =>
    (await ask(query, { input: { ...input, ...more } })).errors[0].message;
  expect(await refused(allocate, { region: 'xyz' })).toContain('"xyz" is not a region');
  expect(await refused(allocate, { machineId: 'm1' })).toContain(
    'does not support an egress address of a single',
  );
  expect(await refused(release, { ip: v6 })).toBe(`Could not find egress IP "${v6}"`);
});

test('what it does not answer is said by name, and never answered by half', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const ask = graphql(bench);
  const said = async (query: string, variables = {}) => (await ask(query, variables)).errors[0].message;
  expect(await said('{ viewer { id } }')).toBe('local Fly does not support the GraphQL operation "viewer"');
  expect(await said('query { app(name: $appName) { releases { id } } }', { appName: 'a1' })).toBe(
    'local Fly does not support "releases" of the GraphQL operation "app"',
  );
  expect(await said('no document')).toContain('no GraphQL document');
  expect(await said('mutation { releaseIpAddress(input: $input) { id } }')).toContain('input is required');
});

test('a deploy token sees its app and whose it is, no other', async () => {
  const bench = await startBench();
  for (const name of ['a1', 'a2']) await bench.call('POST', '/v1/apps', { name });
  await bench.call('POST', '/v1/apps', { name: 'a3', org_slug: 'acme' });
  const { body } = await bench.call('POST', '/v1/apps/a1/deploy_token', { expiry: '1h' });
  const ask = graphql(bench, body.token);
  const app = 'query ($appName: String!) { app(name: $appName) { id } }';
  expect((await ask(app, { appName: 'a1' })).data.app.id).toBe('a1');
  expect((await ask(app, { appName: 'a2' })).errors).toEqual([
    { message: 'Not authorized to access this app' },
  ]);
  expect((await ask('{ apps { nodes { id } } }')).data.apps.nodes).toMatchObject([{ id: 'a1' }]);
  const orgs = await ask(
    'query($admin: Boolean!) { organizations(admin: $admin) { nodes { id slug rawSlug } } }',
  );
  expect(orgs.data.organizations.nodes).toMatchObject([{ slug: 'personal' }]);
  const one = (slug: string) => ask('query($slug: String!) { organization(slug: $slug) { id } }', { slug });
  expect((await one('personal')).data.organization.id).toBe('personal');
  expect((await one('acme')).errors[0].message).toBe('Not authorized to access this organization');
  const input = { appId: 'a2', type: 'v6' };
  const allocated = await ask('mutation { allocateIpAddress(input: $input) { app { id } } }', { input });
  expect(allocated.errors[0].message).toBe('Not authorized to access this app');
  const authorization = body.token;
  const org = async (slug: string) =>
    (await bench.call('GET', `/api/v1/organizations/${slug}`, undefined, { authorization })).status;
  expect([await org('personal'), await org('acme')]).toEqual([200, 403]);
});
