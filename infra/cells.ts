import * as command from '@pulumi/command';
import * as pulumi from '@pulumi/pulumi';
import { action } from './action.ts';
import { type Place, physicalName } from './names.ts';
import { App } from './resources/app.ts';
import { DeployToken } from './resources/deploy-token.ts';
import { NetworkPolicy } from './resources/network-policy.ts';

export interface CellsArgs extends Place {
  /** How many. Sandboxes of one cell share its private network. */
  count: number;
  /** The last so many take no new sandbox: a cell is to be empty before it is taken away. */
  closed: number;
  /** Ports of the controller and of the egress proxy: all that a sandbox may open a connection to. */
  waysOut: number[];
  /** Deploy tokens of the cells as one, made by hand; then none is made. Secret. */
  token: pulumi.Input<string> | undefined;
  /** Lifetime of the deploy tokens, whole hours such as `2160h`; renewed by an `up` after two thirds of it. */
  tokenExpiry: string;
  /** Another text makes new tokens now. */
  tokenRotation: string;
  /** Refuse to delete the apps. */
  protect: boolean;
}

export interface Cell {
  app: pulumi.Output<string>;
  network: pulumi.Output<string>;
  /** Takes no new sandbox. */
  closed: boolean;
}

/** Nothing listens there: one rule for a direction is what makes Fly drop all the rest of it (Fly docs, "network-policies"). */
const NOBODYS_PORT = 9;
const DNS_PORT = 53;

/**
 * The Fly apps that hold the sandboxes, each on a private network of its own that lets nothing in, and out only to the controller and
 * the egress proxy; and one token for each that is good for nothing else.
 */
export class Cells extends pulumi.ComponentResource {
  readonly cells: Cell[];
  /** The deploy tokens of all cells as one: Fly takes a list and allows what any of them allows. Secret. */
  readonly token: pulumi.Output<string>;
  /** What has to be gone before the cells are emptied must depend on these. */
  readonly reapers: command.local.Command[];

  constructor(name: string, args: CellsArgs, opts?: pulumi.ComponentResourceOptions) {
    super('mobvibe:infra:Cells', name, {}, opts);
    const made = Array.from({ length: args.count }, (_, index) =>
      this.#cell(`${name}-${index + 1}`, index + 1, args),
    );
    this.cells = made.map(({ app }, index) => ({
      app: app.name,
      network: app.network.apply((network) => network ?? ''),
      closed: index >= args.count - args.closed,
    }));
    this.token = pulumi.secret(
      args.token ?? pulumi.all(made.flatMap(({ token }) => token?.token ?? [])).apply(joinTokens),
    );
    this.reapers = made.map(({ reaper }) => reaper);
    this.registerOutputs({ cells: this.cells });
  }

  #cell(name: string, number: number, args: CellsArgs) {
    const { endpoint, org } = args;
    const physical = physicalName(args, `cell-${number}`);
    const app = new App(
      name,
      { endpoint, org, name: physical, network: physical },
      { parent: this, protect: args.protect },
    );
    // Before the first machine: a policy acts on machines that boot afterwards.
    const policy = new NetworkPolicy(
      `${name}-policy`,
      { endpoint, app: app.name, name: 'sandboxes', rules: cellRules(args.waysOut) },
      { parent: this, deletedWith: app },
    );
    const token = args.token
      ? undefined
      : new DeployToken(
          `${name}-token`,
          { endpoint, app: app.name, expiry: args.tokenExpiry, rotation: args.tokenRotation },
          { parent: this, deletedWith: app },
        );
    const reaper = new command.local.Command(
      `${name}-reap`,
      action({ delete: 'reap', environment: { FLY_FLAPS_BASE_URL: endpoint, MOBVIBE_REAP_APP: app.name } }),
      { parent: this, dependsOn: [app, policy] },
    );
    return { app, token, reaper };
  }
}

/** Of a network policy: nothing comes in; connections go out to these TCP ports and to the name server. */
export function cellRules(waysOut: number[]) {
  const tcp = (port: number) => ({ protocol: 'tcp' as const, port });
  return [
    { action: 'allow' as const, direction: 'ingress' as const, ports: [tcp(NOBODYS_PORT)] },
    {
      action: 'allow' as const,
      direction: 'egress' as const,
      ports: [...waysOut.map(tcp), tcp(DNS_PORT), { protocol: 'udp' as const, port: DNS_PORT }],
    },
  ];
}

/** `FlyV1 a` and `FlyV1 b` become `FlyV1 a,b`. */
export function joinTokens(tokens: string[]): string {
  return `FlyV1 ${tokens.map((token) => token.replace(/^FlyV1 /, '')).join(',')}`;
}
