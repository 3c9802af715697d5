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
  /** Fly networks. */
  callers: string[];
  container: string;
  /** Docker networks that it is on as such. */
  joined: Set<string>;
}

/** Within a Fly network, or out of it. */
type Kind = 'inner' | 'outer';

interface Known {
  /** Fly's name of the network that it is, or is a part of. */
  flyNetwork: string;
  kind: Kind;
  members: Set<string>;
  id: string;
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
      const scope = scopeOf(spec);
      const aliases = [`${spec.id}.vm.${spec.app}.internal`, `${spec.app}.internal`];
      if (network.flycast.includes(scope)) aliases.push(`${spec.app}.flycast`);
      const attachments = [{ network: await this.#use(scope, network.name, spec.id, 'inner'), aliases }];
      if (!network.deniesEgress) {
        attachments.unshift({
          network: await this.#use(`${scope}.out`, network.name, spec.id, 'outer'),
          aliases: [],
        });
      }
      return attachments;
    });
  }

  /** The machine's container answers on the networks of its callers from now on, and on those that come later. Safe to repeat. */
  serveFlycast(spec: MachineSpec, callers: string[], container: string): Promise<void> {
    const { id, app } = spec;
    return this.#inTurn(async () => {
      const joined = this.#flycast.get(id)?.joined ?? new Set([this.#nameOf(scopeOf(spec))]);
      const flycast = { app, callers, container, joined };
      for (const caller of callers) await this.#use(caller, caller, id, 'inner');
      this.#flycast.set(id, flycast);
      for (const [name, { flyNetwork, kind }] of this.#known) {
        if (kind === 'inner' && callers.includes(flyNetwork)) await this.#connect(name, flycast);
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
        await removeNetwork(this.#docker.calls, id);
        this.#known.delete(name);
        for (const { joined } of this.#flycast.values()) joined.delete(name);
      }
    });
  }

  #nameOf(scope: string): string {
    return `${this.#ownership.prefix}-${scope}`;
  }

  async #use(scope: string, flyNetwork: string, machineId: string, kind: Kind): Promise<string> {
    const name = this.#nameOf(scope);
    let known = this.#known.get(name);
    if (!known) {
      const id = await this.#create(name, flyNetwork, kind);
      known = { flyNetwork, kind, members: new Set(), id };
      this.#known.set(name, known);
      if (kind === 'inner') {
        for (const flycast of this.#flycast.values()) {
          if (flycast.callers.includes(flyNetwork)) await this.#connect(name, flycast);
        }
      }
    }
    known.members.add(machineId);
    return name;
  }

  async #create(name: string, flyNetwork: string, kind: Kind): Promise<string> {
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

  async #connect(name: string, { app, container, joined }: Flycast): Promise<void> {
    if (joined.has(name)) return;
    const network = this.#docker.calls.getNetwork(this.#known.get(name)!.id);
    try {
      const EndpointConfig = { Aliases: [`${app}.flycast`] };
      await network.connect({ Container: container, EndpointConfig });
      joined.add(name);
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

/** A network of its own for a machine that nobody of its Fly network may reach. A dot is in no name of Fly's. */
function scopeOf({ id, network }: MachineSpec): string {
  return network.deniesIngress ? `${network.name}.${id}` : network.name;
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
