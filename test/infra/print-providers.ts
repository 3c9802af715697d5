/**
 * Prints, as JSON, what Pulumi's SDK makes of each resource: its type, the serialized provider, the inputs and which
 * outputs are secret. Run as a process of its own by plain node, as a program is: vitest rewrites the `import()`s whose
 * text the serializer takes.
 */
import * as pulumi from '@pulumi/pulumi';
import type { Printed } from './provider-process.ts';

const printed: Record<string, Partial<Printed>> = {};
await pulumi.runtime.setMocks({
  newResource({ type, name, inputs: { __provider: provider, ...inputs } }) {
    Object.assign(printed[name]!, { type, provider, inputs });
    return { id: name, state: inputs };
  },
  call: () => ({}),
});
const { ApiKey, App, DeployToken, IpAddress, Machine, NetworkPolicy, RandomSecret, Secrets } = await import(
  '../../infra/resources/index.ts'
);

// The mocks are not told of options; a transformation is.
const note: pulumi.ResourceTransformation = ({ name, opts }) => {
  const { additionalSecretOutputs = [] } = opts as pulumi.CustomResourceOptions;
  printed[name] = { additionalSecretOutputs };
  return undefined;
};
const opts = { transformations: [note] };
const endpoint = 'http://127.0.0.1:1';
const app = pulumi.output('app');
const project = { supabaseUrl: endpoint, serviceRoleKey: 'service-role' };
const config = { image: 'image', env: { APP: app } };
const resources = [
  new App('App', { endpoint, name: app, org: 'org' }, opts),
  new NetworkPolicy('NetworkPolicy', { endpoint, app, name: 'closed', rules: [] }, opts),
  new DeployToken('DeployToken', { endpoint, app, expiry: '24h' }, opts),
  new Secrets('Secrets', { endpoint, app, values: { NAME: 'value' } }, opts),
  new IpAddress('IpAddress', { endpoint, app, type: 'v6' }, opts),
  new Machine('Machine', { endpoint, app, name: 'one', region: 'ams', config }, opts),
  new RandomSecret('RandomSecret', {}, opts),
  new ApiKey('ApiKey', { ...project, keyId: 'key', name: 'Key' }, opts),
];
await Promise.all(resources.map(({ urn }) => new Promise((resolve) => urn.apply(resolve))));
process.stdout.write(JSON.stringify(printed));
