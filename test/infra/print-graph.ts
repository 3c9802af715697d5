/**
 * Prints what the program makes, under Pulumi's mocks: one JSON line for each resource, secrets as `[secret …]`. A process of its own,
 * as Vitest rewrites `import()`, and then Pulumi can't serialize a provider. Settings: the variable `SETTINGS`, as JSON.
 */
import * as pulumi from '@pulumi/pulumi';
import { unwrap } from './unwrap.ts';

const shown = (secret: unknown) => `[secret ${JSON.stringify(secret)}]`;
const settings = JSON.parse(process.env.SETTINGS!) as Record<string, string>;
await pulumi.runtime.setMocks(
  {
    call: () => ({}),
    newResource({ type, name, inputs }) {
      const { __provider, ...rest } = inputs;
      const made = { type: type.replace(/^pulumi-nodejs:dynamic\//, ''), name, inputs: unwrap(rest, shown) };
      process.stdout.write(`${JSON.stringify(made)}\n`);
      const outputs = {
        token: `FlyV1 token-of-${name}`,
        value: 'random',
        key: 'mvk_key',
        address: '203.0.113.9',
      };
      const repository = String(inputs.imageName ?? '').replace(/:[^:/]*$/, '');
      const built = type === 'docker:index/image:Image' && { repoDigest: `${repository}@sha256:of-${name}` };
      const state = { ...rest, ...outputs, ...built, version: 3, machineId: 'm1', instanceId: 'i1' };
      return { id: `${name}-id`, state };
    },
  },
  'mobvibe',
  'prod',
);
pulumi.runtime.setAllConfig(
  settings,
  Object.keys(settings).filter((key) => /(Key|DbUrl)$/.test(key)),
);
try {
  await import('../../infra/index.ts');
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
