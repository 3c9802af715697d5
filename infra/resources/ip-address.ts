import * as pulumi from '@pulumi/pulumi';
import type { IpAddressInputs, IpAddressOutputs } from '../operations/ip-address.ts';
import type { Args } from './args.ts';

export type IpAddressArgs = Args<IpAddressInputs>;

const provider: pulumi.dynamic.ResourceProvider<IpAddressInputs, IpAddressOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/ip-address')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/ip-address')).create(inputs),
  read: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/ip-address')).read(id, props!),
  update: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/ip-address')).update(olds, news),
  delete: async (_id, props) => (await import('mobvibe-sandboxes/infra/operations/ip-address')).remove(props),
};

/** An address of an app; its id is the address. A change of any input but `endpoint` releases it before another is asked for. */
export class IpAddress extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly app: pulumi.Output<string>;
  declare readonly type: pulumi.Output<IpAddressInputs['type']>;
  declare readonly network: pulumi.Output<string | undefined>;
  declare readonly region: pulumi.Output<string | undefined>;
  declare readonly address: pulumi.Output<string>;

  constructor(name: string, args: IpAddressArgs, opts?: pulumi.CustomResourceOptions) {
    super(provider, name, { ...args, address: undefined }, opts, 'fly', 'IpAddress');
  }
}
