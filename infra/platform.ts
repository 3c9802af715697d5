import * as command from '@pulumi/command';
import * as pulumi from '@pulumi/pulumi';
import { action } from './action.ts';
import { Cells } from './cells.ts';
import type { StackConfig } from './config.ts';
import { AGENT_PORT, Controller } from './controller.ts';
import { Database } from './database.ts';
import { EGRESS_PORT, Egress } from './egress.ts';
import { Images } from './images.ts';
import { RandomSecret } from './resources/random-secret.ts';

export interface PlatformArgs {
  project: string;
  stack: string;
  config: StackConfig;
}

/** Everything that a stack is. */
export class Platform extends pulumi.ComponentResource {
  readonly images: Images;
  readonly database: Database;
  readonly cells: Cells;
  readonly egress: Egress;
  readonly controller: Controller;

  constructor(
    name: string,
    { project, stack, config }: PlatformArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super('mobvibe:infra:Platform', name, {}, opts);
    const { supabase, protect } = config;
    const place = { endpoint: config.flyApiUrl, org: config.org, project, stack };
    const own = { parent: this };

    const { registry, region, images } = config;
    this.images = new Images('images', { ...place, registry, region, config: images, protect }, own);
    this.database = new Database(
      'database',
      { stack, supabaseUrl: supabase.url, serviceRoleKey: supabase.serviceRoleKey, dbUrl: supabase.dbUrl },
      own,
    );
    this.cells = new Cells(
      'cell',
      {
        ...place,
        count: config.cells,
        closed: config.closedCells,
        waysOut: [AGENT_PORT, EGRESS_PORT],
        token: config.cellToken,
        tokenExpiry: config.tokenExpiry,
        tokenRotation: config.tokenRotation,
        protect,
      },
      own,
    );
    const agentSecret = pulumi.secret(new RandomSecret('agent-secret', { bytes: 32 }, own).value);
    this.egress = new Egress(
      'egress',
      {
        ...place,
        region: config.region,
        image: this.images.controller,
        cells: this.cells.cells,
        agentSecret,
        allow: [hostAndPort(supabase.urlInside)],
        protect,
      },
      own,
    );
    this.controller = new Controller(
      'controller',
      {
        ...place,
        endpointInside: config.flyApiUrlInside,
        region: config.region,
        image: this.images.controller,
        sandboxImage: this.images.sandbox,
        sandbox: config.sandbox,
        cells: this.cells.cells,
        cellToken: this.cells.token,
        supabaseUrl: supabase.urlInside,
        serviceRoleKey: supabase.serviceRoleKey,
        agentSecret,
        egressUrl: this.egress.url,
        settings: config.controller,
        apiKey: this.database.apiKey,
        discardUnsaved: config.discardUnsaved,
        after: [this.database.migrated, this.egress.machine, ...this.cells.reapers],
        protect,
      },
      own,
    );
    if (config.smoke) this.#smokeCheck();
    this.registerOutputs({});
  }

  /** After each deploy a session is opened, a command is run in it, and it is stopped: an `up` that can't do that has failed. */
  #smokeCheck(): void {
    new command.local.Command(
      'smoke',
      action({
        up: 'smoke',
        environment: {
          MOBVIBE_URL: this.controller.url,
          MOBVIBE_API_KEY: this.database.apiKey,
          // Not read: what was deployed; a change of it makes this run again.
          DEPLOYED: pulumi
            .all([
              this.images.controller,
              this.images.sandbox,
              ...this.controller.machines.map((machine) => machine.instanceId),
            ])
            .apply((parts) => parts.join(' ')),
        },
      }),
      { parent: this, dependsOn: this.controller.machines },
    );
  }
}

/** `project.supabase.co:443`. */
export function hostAndPort(url: string): string {
  const { hostname, port, protocol } = new URL(url);
  return `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`;
}
