import { fileURLToPath } from 'node:url';
import * as docker from '@pulumi/docker';
import * as pulumi from '@pulumi/pulumi';
import { writeControllerContext, writeSandboxContext } from '../image/bundle.ts';
import type { ImagesConfig } from './config.ts';
import { type Place, physicalName } from './names.ts';
import { App } from './resources/app.ts';
import { Machine } from './resources/machine.ts';

export interface ImagesArgs extends Place {
  /** Host of the registry; whoever runs Docker is logged in there (`fly auth docker`), so no password is in the state. */
  registry: string;
  region: string;
  config: ImagesConfig;
  /** Refuse to delete the repository: machines boot from it. */
  protect: boolean;
}

/** From the program's folder, where the engine starts its providers: a path of this computer would be a change on the next one. */
const BUILD = '../.mobvibe/build';
/** What Fly's machines are. */
const PLATFORM = 'linux/amd64';

/** The two images, built and pushed, or taken as they are; only digests are handed on, as a tag may change under a running stack. */
export class Images extends pulumi.ComponentResource {
  readonly sandbox: pulumi.Output<string>;
  readonly controller: pulumi.Output<string>;

  constructor(name: string, args: ImagesArgs, opts?: pulumi.ComponentResourceOptions) {
    super('mobvibe:infra:Images', name, {}, opts);
    const { config } = args;
    const given = config.sandboxRef !== undefined && config.controllerRef !== undefined;
    // A repository of Fly's registry belongs to an app, which has to be there before the push.
    const app = given ? undefined : this.#repository(name, args);
    this.sandbox = pulumi.output(
      config.sandboxRef ??
        this.#build(`${name}-sandbox`, app!, args, {
          context: context('sandbox', writeSandboxContext),
          target: config.sandboxTarget,
          args: { BASE: config.sandboxBase },
        }),
    );
    this.controller = pulumi.output(
      config.controllerRef ??
        this.#build(`${name}-controller`, app!, args, {
          context: context('controller', writeControllerContext),
          args: { BASE: config.controllerBase },
        }),
    );
    if (config.sandboxRef === undefined) this.#keep(`${name}-keeper`, app!, args);
    this.registerOutputs({ sandbox: this.sandbox, controller: this.controller });
  }

  #repository(name: string, args: ImagesArgs): App {
    const { endpoint, org } = args;
    const opts = { parent: this, protect: args.protect };
    return new App(name, { endpoint, org, name: physicalName(args, 'img') }, opts);
  }

  /**
   * Fly may remove an image that no machine has (Fly docs, "using-the-fly-docker-registry"), and between two sessions no
   * machine has the sandbox's. So one is made of it that never runs; the controller's is held by the controller.
   */
  #keep(name: string, app: App, { endpoint, region, stack }: ImagesArgs): void {
    new Machine(
      name,
      {
        endpoint,
        app: app.name,
        name: 'keeper',
        region,
        launch: false,
        config: {
          image: this.sandbox,
          guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
          restart: { policy: 'no' },
          metadata: { 'mobvibe-stack': stack, 'mobvibe-role': 'keeper' },
        },
      },
      { parent: this, deletedWith: app },
    );
  }

  #build(name: string, app: App, { registry }: ImagesArgs, build: docker.types.input.DockerBuild) {
    const image = new docker.Image(
      name,
      {
        imageName: pulumi.interpolate`${registry}/${app.name}:${name.replace(/^.*-/, '')}`,
        build: { ...build, platform: PLATFORM },
      },
      { parent: this },
    );
    return image.repoDigest;
  }
}

/** The folder that Docker is given, made anew: the same sources make the same bytes, and then nothing is built. */
function context(name: string, write: (dir: string) => void): string {
  const path = `${BUILD}/${name}`;
  write(fileURLToPath(new URL(path, import.meta.url)));
  return path;
}
