import * as pulumi from '@pulumi/pulumi';
import type { RandomSecretInputs, RandomSecretOutputs } from '../operations/random-secret.ts';
import type { Args } from './args.ts';

export type RandomSecretArgs = Args<Partial<RandomSecretInputs>>;

const provider: pulumi.dynamic.ResourceProvider<RandomSecretInputs, RandomSecretOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/random-secret')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/random-secret')).create(inputs),
};

/** A secret that nobody has to choose; it lives in the state alone. */
export class RandomSecret extends pulumi.dynamic.Resource {
  declare readonly bytes: pulumi.Output<number>;
  declare readonly rotation: pulumi.Output<string | undefined>;
  /** Secret; base64url. */
  declare readonly value: pulumi.Output<string>;

  constructor(name: string, args: RandomSecretArgs = {}, opts: pulumi.CustomResourceOptions = {}) {
    const secret = pulumi.mergeOptions(opts, { additionalSecretOutputs: ['value'] });
    const inputs = { ...args, bytes: args.bytes ?? 32, value: undefined };
    super(provider, name, inputs, secret, 'mobvibe', 'RandomSecret');
  }
}
