import * as pulumi from '@pulumi/pulumi';
import type { MachineInputs, MachineOutputs } from '../operations/machine.ts';
import type { Args } from './args.ts';

export type MachineArgs = Args<
  Omit<MachineInputs, 'startTimeoutSeconds'> & Partial<Pick<MachineInputs, 'startTimeoutSeconds'>>
>;

const provider: pulumi.dynamic.ResourceProvider<MachineInputs, MachineOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/machine')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/machine')).create(inputs),
  read: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/machine')).read(id, props!),
  update: async (id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/machine')).update(id, olds, news),
  delete: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/machine')).remove(id, props),
};

/**
 * A machine that always runs, or with `launch: false` never; its id is Fly's. Ready means started with all its checks
 * passing, or at rest. Updated in place; a change of app, name, region or launch, or a boot that failed, deletes it
 * before it is made anew.
 */
export class Machine extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly app: pulumi.Output<string>;
  declare readonly name: pulumi.Output<string>;
  declare readonly region: pulumi.Output<string>;
  declare readonly config: pulumi.Output<MachineInputs['config']>;
  declare readonly launch: pulumi.Output<boolean | undefined>;
  declare readonly minSecretsVersion: pulumi.Output<number | undefined>;
  declare readonly startTimeoutSeconds: pulumi.Output<number>;
  declare readonly machineId: pulumi.Output<string>;
  /** Of its present version; another one after each update. */
  declare readonly instanceId: pulumi.Output<string>;
  /** In the app's private network. */
  declare readonly privateIp: pulumi.Output<string>;
  declare readonly state: pulumi.Output<string>;

  constructor(name: string, args: MachineArgs, opts?: pulumi.CustomResourceOptions) {
    const inputs = { ...args, startTimeoutSeconds: args.startTimeoutSeconds ?? 180 };
    const outputs = { machineId: undefined, instanceId: undefined, privateIp: undefined, state: undefined };
    super(provider, name, { ...inputs, ...outputs }, opts, 'fly', 'Machine');
  }
}
