import * as pulumi from '@pulumi/pulumi';
import type { DeployTokenInputs, DeployTokenOutputs } from '../operations/deploy-token.ts';
import type { Args } from './args.ts';

export type DeployTokenArgs = Args<DeployTokenInputs>;

const provider: pulumi.dynamic.ResourceProvider<DeployTokenInputs, DeployTokenOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/deploy-token')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/deploy-token')).create(inputs),
  read: async (id, props) =>
    (await import('mobvibe-sandboxes/infra/operations/deploy-token')).read(id, props!),
  update: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/deploy-token')).update(olds, news),
};

/**
 * A token that may do what is below one app and nothing else; its id is made of the app and the token's hash. Replaced
 * when two thirds of its life are over. The Machines API can't revoke one: it is void with its app or its expiry.
 */
export class DeployToken extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly app: pulumi.Output<string>;
  declare readonly expiry: pulumi.Output<string>;
  declare readonly rotation: pulumi.Output<string | undefined>;
  /** Secret. */
  declare readonly token: pulumi.Output<string>;
  /** RFC 3339. */
  declare readonly expiresAt: pulumi.Output<string>;

  constructor(name: string, args: DeployTokenArgs, opts: pulumi.CustomResourceOptions = {}) {
    const secret = pulumi.mergeOptions(opts, { additionalSecretOutputs: ['token'] });
    const inputs = { ...args, token: undefined, expiresAt: undefined };
    super(provider, name, inputs, secret, 'fly', 'DeployToken');
  }
}
