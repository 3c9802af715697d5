/**
 * Prints, as JSON, what Pulumi's own serializer makes of each resource's provider, and what else the engine would be
 * told of it. A process of its own, run by plain node as a program is: vitest rewrites the `import()`s whose text the
 * serializer takes.
 */
import * as pulumi from '@pulumi/pulumi';

const seen: Record<string, { type: string; provider: string }> = {};
await pulumi.runtime.setMocks({
  newResource({ type, name, inputs }) {
    seen[name] = { type, provider: inputs.__provider };
    return { id: name, state: inputs };
  },
  call: () => ({}),
});
const { ApiKey, App, DeployToken, IpAddress, Machine, NetworkPolicy, RandomSecret, Secrets } = await import(
  '../../infra/resources/index.ts'
);
const endpoint = 'http://127.0.0.1:1';
const app = 'app';
const project = { supabaseUrl: endpoint, serviceRoleKey: 'service-role' };
const resources = [
  new App('App', { endpoint, name: app, org: 'org' }),
  new NetworkPolicy('NetworkPolicy', { endpoint, app, name: 'closed', rules: [] }),
  new DeployToken('DeployToken', { endpoint, app, expiry: '24h' }),
  new Secrets('Secrets', { endpoint, app, values: {} }),
  new IpAddress('IpAddress', { endpoint, app, type: 'v6' }),
  new Machine('Machine', { endpoint, app, name: 'one', region: 'ams', config: { image: 'image' } }),
  new RandomSecret('RandomSecret'),
  new ApiKey('ApiKey', { ...project, keyId: 'key', name: 'Key' }),
];
await Promise.all(resources.map(({ urn }) => new Promise((resolve) => urn.apply(resolve))));
process.stdout.write(JSON.stringify(seen));
