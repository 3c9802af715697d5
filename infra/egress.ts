import * as pulumi from '@pulumi/pulumi';
import type { Cell } from './cells.ts';
import { flycast } from './flycast.ts';
import { type Place, physicalName } from './names.ts';
import { App } from './resources/app.ts';
import { Machine } from './resources/machine.ts';
import { Secrets } from './resources/secrets.ts';

export interface EgressArgs extends Place {
  region: string;
  /** Of the controller, by digest: the proxy is its second entry point. */
  image: pulumi.Input<string>;
  cells: Cell[];
  /** Proves to the proxy who asks. Secret. */
  agentSecret: pulumi.Input<string>;
  /** The `host:port` pairs that agents may reach. */
  allow: string[];
  protect: boolean;
}

export const EGRESS_PORT = 3128;

/** The one way out of a cell but the controller: a CONNECT proxy with a list of names, reached by Flycast, without any public address. */
export class Egress extends pulumi.ComponentResource {
  /** As a sandbox is told it. */
  readonly url: pulumi.Output<string>;
  readonly machine: Machine;

  constructor(name: string, args: EgressArgs, opts?: pulumi.ComponentResourceOptions) {
    super('mobvibe:infra:Egress', name, {}, opts);
    const { endpoint, org, region } = args;
    const app = new App(
      name,
      { endpoint, org, name: physicalName(args, 'egress') },
      { parent: this, protect: args.protect },
    );
    flycast(name, this, { endpoint, app, cells: args.cells });
    const secrets = new Secrets(
      `${name}-secrets`,
      { endpoint, app: app.name, values: { MOBVIBE_AGENT_SECRET: args.agentSecret } },
      { parent: this, deletedWith: app },
    );
    this.machine = new Machine(
      `${name}-1`,
      {
        endpoint,
        app: app.name,
        name: `${name}-1`,
        region,
        minSecretsVersion: secrets.version,
        config: {
          image: args.image,
          init: { cmd: ['node', '/app/egress.js'] },
          env: {
            MOBVIBE_EGRESS_LISTEN_PORT: String(EGRESS_PORT),
            MOBVIBE_EGRESS_ALLOW: args.allow.join(','),
          },
          guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
          services: [{ protocol: 'tcp', internal_port: EGRESS_PORT, ports: [{ port: EGRESS_PORT }] }],
          checks: { listens: { type: 'tcp', port: EGRESS_PORT, interval: '15s', timeout: '5s' } },
          restart: { policy: 'always' },
          metadata: { 'mobvibe-stack': args.stack, 'mobvibe-role': 'egress' },
        },
      },
      { parent: this },
    );
    this.url = pulumi.interpolate`http://${app.name}.flycast:${EGRESS_PORT}`;
    this.registerOutputs({ url: this.url });
  }
}
