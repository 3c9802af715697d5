import * as pulumi from '@pulumi/pulumi';
import type { ApiKeyInputs, ApiKeyOutputs } from '../operations/api-key.ts';
import type { Args } from './args.ts';

export type ApiKeyArgs = Args<ApiKeyInputs>;

const provider: pulumi.dynamic.ResourceProvider<ApiKeyInputs, ApiKeyOutputs> = {
  diff: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/api-key')).diff(olds, news),
  create: async (inputs) => (await import('mobvibe-sandboxes/infra/operations/api-key')).create(inputs),
  read: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/api-key')).read(id, props!),
  update: async (_id, olds, news) =>
    (await import('mobvibe-sandboxes/infra/operations/api-key')).update(olds, news),
  delete: async (id, props) => (await import('mobvibe-sandboxes/infra/operations/api-key')).remove(id, props),
};

/** A key of the controller's API; its id is that of its row. Needs the migrations applied. Deleting revokes it. */
export class ApiKey extends pulumi.dynamic.Resource {
  declare readonly supabaseUrl: pulumi.Output<string>;
  /** Secret. */
  declare readonly serviceRoleKey: pulumi.Output<string>;
  declare readonly keyId: pulumi.Output<string>;
  declare readonly name: pulumi.Output<string>;
  declare readonly rotation: pulumi.Output<string | undefined>;
  /** Secret: `mvk_` and base64url. */
  declare readonly key: pulumi.Output<string>;

  constructor(name: string, args: ApiKeyArgs, opts: pulumi.CustomResourceOptions = {}) {
    const secret = pulumi.mergeOptions(opts, { additionalSecretOutputs: ['key', 'serviceRoleKey'] });
    const inputs = { ...args, serviceRoleKey: pulumi.secret(args.serviceRoleKey), key: undefined };
    super(provider, name, inputs, secret, 'mobvibe', 'ApiKey');
  }
}
