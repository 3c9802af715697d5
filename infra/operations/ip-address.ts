import type { AllocateIpRequest, FlyClient, IpAssignment } from '../../fly/index.ts';
import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, isInDoubt, unlessMissing } from './fly.ts';
import { waitUntil } from './wait.ts';

export interface IpAddressInputs extends AtFly {
  /** Name of the app; at most one `v4`, `shared_v4` and `v6` each, as an address that is there is adopted. */
  app: string;
  /** `v4` costs money; `private_v6` is a Flycast address. */
  type: AllocateIpRequest['type'];
  /** For `private_v6`: the network that the callers are on. Default: the organisation's own. */
  network?: string;
  /** Default: Fly's choice, which is anycast. */
  region?: string;
}

export interface IpAddressOutputs extends IpAddressInputs {
  address: string;
}

const GONE_MS = 30_000;

/** The old one goes first: a new one of the same type would be the old one, adopted. */
export function diff(olds: IpAddressOutputs, news: IpAddressInputs): Difference {
  return compare(olds, news, {
    replace: ['app', 'type', 'network', 'region'],
    update: ['endpoint'],
    deleteBeforeReplace: true,
  });
}

/**
 * Adopts an address of the type that the app has. Not so a `private_v6`, as Fly doesn't show whose network it is
 * for: of those, one that appeared while the answer to our own call was lost.
 */
export async function create(inputs: IpAddressInputs): Promise<{ id: string; outs: IpAddressOutputs }> {
  const { endpoint, app, type, network, region } = inputs;
  if (network !== undefined && type !== 'private_v6') {
    throw new Error(`network: only an address of type private_v6 has one; type is ${JSON.stringify(type)}`);
  }
  const fly = flyAt(endpoint);
  const isSuch = (one: IpAssignment): boolean =>
    typeOf(one) === type && (region === undefined || one.region === region);
  const address = await inTurn(app, async () => {
    const before = await fly.listIps(app);
    const left = type === 'private_v6' ? undefined : before.find(isSuch);
    if (left !== undefined) return left.ip;
    const isNew = ({ ip }: IpAssignment): boolean => before.every((known) => known.ip !== ip);
    const request = { type, ...(network && { network }), ...(region && { region }) };
    return allocate(fly, app, request, (one) => isSuch(one) && isNew(one));
  });
  return { id: address, outs: { ...inputs, address } };
}

async function allocate(
  fly: FlyClient,
  app: string,
  request: AllocateIpRequest,
  isOurs: (one: IpAssignment) => boolean,
): Promise<string> {
  try {
    return (await fly.allocateIp(app, request)).ip;
  } catch (error) {
    const made = isInDoubt(error) ? (await fly.listIps(app)).find(isOurs) : undefined;
    if (made === undefined) throw error;
    return made.ip;
  }
}

export async function read(
  id: string,
  props: IpAddressOutputs,
): Promise<{ id?: string; props?: IpAddressOutputs }> {
  const all = await unlessMissing(flyAt(props.endpoint).listIps(props.app));
  return all?.some(({ ip }) => ip === id) ? { id, props } : {};
}

/** Only where Fly is asked can change without another address. */
export function update(olds: IpAddressOutputs, { endpoint }: IpAddressInputs): { outs: IpAddressOutputs } {
  return { outs: { ...olds, endpoint } };
}

export async function remove({ endpoint, app, address }: IpAddressOutputs): Promise<void> {
  const fly = flyAt(endpoint);
  await unlessMissing(fly.releaseIp(app, address));
  await waitUntil(`address ${address} of ${app}: not released`, GONE_MS, async () => {
    const all = await unlessMissing(fly.listIps(app));
    return all?.some(({ ip }) => ip === address) ? { waiting: 'Fly still lists it' } : { done: true };
  });
}

/** Fly's answer has no type. Its private networks are in fdaa::/16 (Fly docs, "networking/private-networking"). */
export function typeOf({ ip, shared }: IpAssignment): AllocateIpRequest['type'] {
  if (ip.includes(':')) return ip.startsWith('fdaa:') ? 'private_v6' : 'v6';
  return shared ? 'shared_v4' : 'v4';
}

const turns = new Map<string, Promise<unknown>>();

/** One creation at a time for each app: what another one made must not be taken for our own. */
function inTurn<T>(app: string, work: () => Promise<T>): Promise<T> {
  const turn = (turns.get(app) ?? Promise.resolve()).then(work, work);
  turns.set(app, turn);
  return turn;
}
