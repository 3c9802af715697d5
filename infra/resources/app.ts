import * as pulumi from '@pulumi/pulumi';
import type { AppInputs, AppOutputs } from '../operations/app.ts';
import type { Args } from './args.ts';

export type AppArgs = Args<AppInputs>;

const provider: pulumi.dynamic.ResourceProvider<AppInputs, AppOutputs> = {
  diff: async (_id, olds, news) => (await import('mobvibe-sandboxes/infra/operations/app')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/app')).create(inputs),
  read: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/app')).read(id, props!),
  update: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/app')).update(olds, news),
  delete: async (_id, props) => (await import('mobvibe-sandboxes/infra/operations/app')).remove(props),
};

/**
 * A Fly app; its id is its name. Everything in it goes with it: give what belongs to it `deletedWith` it. A change of
 * any input but `endpoint` deletes it before it is made anew.
 */
export class App extends pulumi.dynamic.Resource {
  declare readonly endpoint: pulumi.Output<string>;
  declare readonly name: pulumi.Output<string>;
  declare readonly org: pulumi.Output<string>;
  declare readonly network: pulumi.Output<string | undefined>;
  /** Fly's id of the app. */
  declare readonly appId: pulumi.Output<string>;

  constructor(name: string, args: AppArgs, opts?: pulumi.CustomResourceOptions) {
    super(provider, name, { ...args, appId: undefined }, opts, 'fly', 'App');
  }
}
