import type { MachineSpec } from '../engine.ts';
import { type DockerClient, statusOf } from './client.ts';
import { NETWORK, type Ownership, ownershipLabels } from './ownership.ts';
import { removeNetwork } from './removal.ts';

/** One Docker network that a machine is on. */
export interface Attachment {
  network: string;
  /** Further names that others on it know the machine by. */
  aliases: string[];
}

interface Flycast {
  app: string;
  networks: string[];
  container: string;
}

interface Known {
  /** Fly's name of the network that it is, or is a part of. */
  flyNetwork: string;
  members: Set<string>;
  id: Promise<string>;
}

/**
 * Docker networks in the place of Fly's. A Fly network is one Docker network without a way out and without an address of the host;
 * a machine whose policy denies ingress gets one for itself, and only those whom it may call join it there by their Flycast name.
 * A machine that may reach out is on a second network that leads there. Made when the first machine needs them, removed with the last.
 */
export class Networks {
  readonly #docker: DockerClient;
  readonly #ownership: Ownership;
  readonly #random: () => number;
  readonly #known = new Map<string, Known>();
  /** Machines that run and are reached by a Flycast name, by machine id. */
  readonly #flycast = new Map<string, Flycast>();
  /** Changes come one after another: a network must not be removed while somebody joins it. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(docker: DockerClient, ownership: Ownership, random: () => number) {
    this.#docker = docker;
    this.#ownership = ownership;
    this.#random = random;
  }

  /** Makes what the machine is to be on, and reserves it until `leave`. The first attachment leads out where anything does. */
  join(spec: MachineSpec): Promise<Attachment[]> {
    return this.#inTurn(async () => {
      const { network } = spec;
      const scope = network.deniesIngress ? `${network.name}.${spec.id}` : network.name;
      const aliases = [`${spec.id}.vm.${spec.app}.internal`, `${spec.app}.internal`];
      const attachments = [{ network: await this.#use(scope, network.name, spec.id, 'inner'), aliases }];
      if (!network.deniesEgress) {
        attachments.unshift({
          network: await this.#use(`${scope}.out`, network.name, spec.id, 'outer'),
          aliases: [],
        });
      }
      for (const called of network.flycast) await this.#use(called, called, spec.id, 'inner');
      return attachments;
    });
  }

  /** The container, made but not started, joins the networks of its callers, and those that come later. */
  serveFlycast(spec: MachineSpec, container: string): Promise<void> {
    return this.#inTurn(async () => {
      const flycast = { app: spec.app, networks: spec.network.flycast, container };
      if (flycast.networks.length === 0) return;
      this.#flycast.set(spec.id, flycast);
      for (const [name, { flyNetwork }] of this.#known) {
        if (flycast.networks.includes(flyNetwork) && !name.endsWith('.out'))
          await this.#connect(name, flycast);
      }
    });
  }

  /** Its container is gone or about to go; what it is on stays until `leave`. */
  endFlycast(machineId: string): void {
    this.#flycast.delete(machineId);
  }

  /** Gives back what `join` reserved. */
  leave(machineId: string): Promise<void> {
    return this.#inTurn(async () => {
      for (const [name, { members, id }] of this.#known) {
        if (!members.delete(machineId) || members.size > 0) continue;
        await removeNetwork(this.#docker.calls, await id);
        this.#known.delete(name);
      }
    });
  }

  async #use(scope: string, flyNetwork: string, machineId: string, kind: 'inner' | 'outer'): Promise<string> {
    const name = `${this.#ownership.prefix}-${scope}`;
    let known = this.#known.get(name);
    if (!known) {
      const id = this.#create(name, flyNetwork, kind);
      await id;
      known = { flyNetwork, members: new Set(), id };
      this.#known.set(name, known);
      if (kind === 'inner') {
        for (const flycast of this.#flycast.values()) {
          if (flycast.networks.includes(flyNetwork)) await this.#connect(name, flycast);
        }
      }
    }
    known.members.add(machineId);
    return name;
  }

  async #create(name: string, flyNetwork: string, kind: 'inner' | 'outer'): Promise<string> {
    const Labels = { ...ownershipLabels(this.#ownership), [NETWORK]: flyNetwork };
    const plain = { Name: name, Driver: 'bridge', Labels };
    const { calls } = this.#docker;
    if (kind === 'outer') return (await calls.createNetwork(plain)).id;
    for (let attempt = 1; ; attempt++) {
      try {
        const network = await calls.createNetwork({
          ...plain,
          Internal: true,
          // Without it the host has an address on the bridge, where machines reach whatever listens on all addresses.
          Options: { 'com.docker.network.bridge.inhibit_ipv4': 'true' },
          IPAM: { Config: [{ Subnet: randomSubnet(this.#random) }] },
        });
        return network.id;
      } catch (error) {
        if (attempt === SUBNET_ATTEMPTS || !/overlap/i.test((error as Error).message)) throw error;
      }
    }
  }

  async #connect(name: string, { app, container }: Flycast): Promise<void> {
    const network = this.#docker.calls.getNetwork(await this.#known.get(name)!.id);
    try {
      const EndpointConfig = { Aliases: [`${app}.flycast`] };
      await network.connect({ Container: container, EndpointConfig });
    } catch (error) {
      if (statusOf(error) !== 404) throw error; // The container has ended meanwhile.
    }
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#changes.then(change);
    this.#changes = turn.catch(() => undefined);
    return turn;
  }
}

const SUBNET_ATTEMPTS = 50;

/**
 * One of 1,024 subnets for 125 machines each, in the range for benchmarks between networks (RFC 2544) that no host routes. Docker's own
 * pools end after about 30 networks. The host has no address on such a network, so that a clash could only be one within Docker.
 */
export function randomSubnet(random: () => number): string {
  const index = Math.floor(random() * 1_024);
  return `198.${18 + (index >> 9)}.${(index >> 1) & 255}.${(index & 1) * 128}/25`;
}
