import * as command from '@pulumi/command';
import * as pulumi from '@pulumi/pulumi';
import { action } from './action.ts';
import type { Cell } from './cells.ts';
import type { ControllerConfig, SandboxConfig } from './config.ts';
import { flycast } from './flycast.ts';
import { type Place, physicalName } from './names.ts';
import { App } from './resources/app.ts';
import { IpAddress } from './resources/ip-address.ts';
import { Machine, type MachineArgs } from './resources/machine.ts';
import { Secrets } from './resources/secrets.ts';

export interface ControllerArgs extends Place {
  /** The Machines API as the controller reaches it. */
  endpointInside: string;
  region: string;
  /** By digest. */
  image: pulumi.Input<string>;
  /** What sandboxes boot, by digest. */
  sandboxImage: pulumi.Input<string>;
  sandbox: SandboxConfig;
  cells: Cell[];
  /** Of the cells alone, never the organisation's. Secret. */
  cellToken: pulumi.Input<string>;
  supabaseUrl: string;
  serviceRoleKey: pulumi.Input<string>;
  agentSecret: pulumi.Input<string>;
  egressUrl: pulumi.Input<string>;
  settings: ControllerConfig;
  /** Of the API, for whoever stops all sessions before the controllers go. Secret. */
  apiKey: pulumi.Input<string>;
  /** A destroy goes on though files of sessions could not be saved. */
  discardUnsaved: boolean;
  /** Not before these are there: the database's schema, the way out; and when all is taken away, before the cells are emptied. */
  after: pulumi.Resource[];
  protect: boolean;
}

const API_PORT = 8080;
/** Agents alone are accepted here, so that it may be open in the cells without TLS. */
export const AGENT_PORT = 8081;
/** The controller's own drain takes 30 s at most; Fly kills after this. */
const STOP_TIMEOUT = '60s';

/** The controller's app, its addresses and secrets, and its machines, replaced one after the other. */
export class Controller extends pulumi.ComponentResource {
  readonly url: pulumi.Output<string>;
  readonly app: pulumi.Output<string>;
  readonly machines: Machine[];

  constructor(name: string, args: ControllerArgs, opts?: pulumi.ComponentResourceOptions) {
    super('mobvibe:infra:Controller', name, {}, opts);
    const { endpoint, org } = args;
    const app = new App(
      name,
      { endpoint, org, name: physicalName(args, 'ctl') },
      { parent: this, protect: args.protect },
    );
    const addresses = args.settings.public ? this.#publicAddresses(name, endpoint, app) : [];
    flycast(name, this, { endpoint, app, cells: args.cells });
    const secrets = new Secrets(
      `${name}-secrets`,
      {
        endpoint,
        app: app.name,
        values: {
          FLY_API_TOKEN: args.cellToken,
          SUPABASE_SERVICE_ROLE_KEY: args.serviceRoleKey,
          MOBVIBE_AGENT_SECRET: args.agentSecret,
        },
      },
      { parent: this, deletedWith: app },
    );
    this.machines = this.#machines(name, args, app, secrets);
    this.app = app.name;
    this.url = pulumi
      .all([app.name, addresses[0]?.address ?? ''])
      .apply(([appName, address]) => publicUrl(args.settings.urlTemplate, appName, address));
    // Runs when all is taken away and never else: a machine that is replaced leaves this as it is, and sandboxes go on running.
    new command.local.Command(
      `${name}-drain`,
      action({
        delete: 'drain',
        environment: {
          FLY_FLAPS_BASE_URL: endpoint,
          MOBVIBE_DRAIN_APP: app.name,
          MOBVIBE_URL: this.url,
          MOBVIBE_API_KEY: args.apiKey,
          // Where it is not set, the variable may come from whoever runs the destroy.
          ...(args.discardUnsaved && { MOBVIBE_DISCARD_UNSAVED: 'true' }),
        },
      }),
      { parent: this, dependsOn: [...this.machines, ...addresses] },
    );
    this.registerOutputs({ url: this.url, app: this.app });
  }

  #publicAddresses(name: string, endpoint: string, app: App): IpAddress[] {
    return (['shared_v4', 'v6'] as const).map(
      (type) =>
        new IpAddress(
          `${name}-${type.replace('_', '-')}`,
          { endpoint, app: app.name, type },
          { parent: this, deletedWith: app },
        ),
    );
  }

  #machines(name: string, args: ControllerArgs, app: App, secrets: Secrets): Machine[] {
    const config = controllerMachine(args, app.name);
    const machines: Machine[] = [];
    for (let number = 1; number <= args.settings.machines; number++) {
      const machine = new Machine(
        `${name}-${number}`,
        {
          endpoint: args.endpoint,
          app: app.name,
          name: `${name}-${number}`,
          region: args.region,
          minSecretsVersion: secrets.version,
          config,
        },
        // After the one before it: an update replaces them one by one.
        { parent: this, dependsOn: [...args.after, ...machines.slice(-1)] },
      );
      machines.push(machine);
    }
    return machines;
  }
}

function controllerMachine(args: ControllerArgs, app: pulumi.Input<string>): MachineArgs['config'] {
  const { settings, sandbox } = args;
  const handlers = settings.apiTls ? ['tls', 'http'] : ['http'];
  return {
    image: args.image,
    env: {
      FLY_FLAPS_BASE_URL: args.endpointInside,
      SUPABASE_URL: args.supabaseUrl,
      MOBVIBE_STACK: args.stack,
      MOBVIBE_CELL_APPS: pulumi
        .all(args.cells.filter(({ closed }) => !closed).map(({ app: cell }) => cell))
        .apply((apps) => apps.join(',')),
      MOBVIBE_SANDBOX_IMAGE: args.sandboxImage,
      MOBVIBE_AGENT_DIAL_URL: pulumi.interpolate`ws://${app}.flycast:${AGENT_PORT}/v1/agent`,
      MOBVIBE_EGRESS_PROXY_URL: args.egressUrl,
      // Flycast and Fly's proxy come in from outside the machine, other controllers by IPv6.
      MOBVIBE_LISTEN_HOST: settings.machines > 1 ? '::' : '0.0.0.0',
      MOBVIBE_LISTEN_PORT: String(API_PORT),
      MOBVIBE_AGENT_LISTEN_PORT: String(AGENT_PORT),
      MOBVIBE_CPU_KIND: sandbox.cpuKind,
      MOBVIBE_CPUS: String(sandbox.cpus),
      MOBVIBE_MEMORY_MB: String(sandbox.memoryMb),
      MOBVIBE_SANDBOX_MAX_AGE_MS: String(sandbox.maxAgeMinutes * 60_000),
      MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS: String(sandbox.orphanMinutes * 60_000),
      MOBVIBE_EXEC_TIMEOUT_MS: String(settings.execTimeoutMinutes * 60_000),
      MOBVIBE_JOBS_AT_ONCE: String(settings.jobsAtOnce),
    },
    guest: { cpu_kind: 'shared', cpus: settings.cpus, memory_mb: settings.memoryMb },
    services: [
      { protocol: 'tcp', internal_port: API_PORT, ports: [{ port: settings.apiPort, handlers }] },
      { protocol: 'tcp', internal_port: AGENT_PORT, ports: [{ port: AGENT_PORT, handlers: ['http'] }] },
    ],
    checks: {
      alive: { type: 'http', port: API_PORT, path: '/healthz', interval: '15s', timeout: '5s' },
    },
    restart: { policy: 'always' },
    stop_config: { signal: 'SIGTERM', timeout: STOP_TIMEOUT },
    metadata: { 'mobvibe-stack': args.stack, 'mobvibe-role': 'controller' },
  };
}

export function publicUrl(template: string, app: string, address: string): string {
  return template.replaceAll('{app}', app).replaceAll('{address}', address);
}
