import * as pulumi from '@pulumi/pulumi';
import type { NetworkPolicyInputs, NetworkPolicyOutputs } from '../operations/network-policy.ts';
import type { Args } from './args.ts';

export type NetworkPolicyArgs = Args<
  Omit<NetworkPolicyInputs, 'selector'> & Partial<Pick<NetworkPolicyInputs, 'selector'>>
>;

const provider: pulumi.dynamic.ResourceProvider<NetworkPolicyInputs, NetworkPolicyOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/network-policy')).diff(olds, news),
  create: async (inputs) =>
    (await import('mobvibe-sandboxes/infra/operations/network-policy')).create(inputs),
  read: async (id, props) =>
    (await import('mobvibe-sandboxes/infra/operations/network-policy')).read(id, props!),
  update: async (id, _olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/network-policy')).update(id, news),
  delete: async (id, props) =>
    (await import('mobvibe-sandboxes/infra/operations/network-policy')).remove(id, props),
};

/** A network policy of an app; its id is Fly's. Changed in place, but for its app and name. */
export class NetworkPolicy extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly app: pulumi.Output<string>;
  declare readonly name: pulumi.Output<string>;
  declare readonly selector: pulumi.Output<NetworkPolicyInputs['selector']>;
  declare readonly rules: pulumi.Output<NetworkPolicyInputs['rules']>;
  declare readonly policyId: pulumi.Output<string>;

  constructor(name: string, args: NetworkPolicyArgs, opts?: pulumi.CustomResourceOptions) {
    const inputs = { ...args, selector: args.selector ?? { all: true } };
    super(provider, name, { ...inputs, policyId: undefined }, opts, 'fly', 'NetworkPolicy');
  }
}
