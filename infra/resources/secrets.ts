import * as pulumi from '@pulumi/pulumi';
import type { SecretsInputs, SecretsOutputs } from '../operations/secrets.ts';
import type { Args } from './args.ts';

export type SecretsArgs = Args<SecretsInputs>;

const provider: pulumi.dynamic.ResourceProvider<SecretsInputs, SecretsOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/secrets')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/secrets')).create(inputs),
  read: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/secrets')).read(id, props!),
  update: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/secrets')).update(olds, news),
  delete: async (_id, props) => (await import('mobvibe-sandboxes/infra/operations/secrets')).remove(props),
};

/** All secrets of an app; its id is the app's name. A change is one call of Fly's API. */
export class Secrets extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly app: pulumi.Output<string>;
  /** Secret. */
  declare readonly values: pulumi.Output<Record<string, string>>;
  /** For `minSecretsVersion` of a machine; 0 as long as there never was a secret. */
  declare readonly version: pulumi.Output<number>;
  /** What Fly shows of each value. */
  declare readonly digests: pulumi.Output<Record<string, string>>;

  constructor(name: string, args: SecretsArgs, opts: pulumi.CustomResourceOptions = {}) {
    const secret = pulumi.mergeOptions(opts, { additionalSecretOutputs: ['values'] });
    const inputs = { ...args, values: pulumi.secret(args.values), version: undefined, digests: undefined };
    super(provider, name, inputs, secret, 'fly', 'Secrets');
  }
}
