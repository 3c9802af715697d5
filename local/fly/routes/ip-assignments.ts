import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { FlyError, invalidArgument } from '../rules/errors.ts';
import { bodyObject, type JsonObject, optionalString } from '../rules/json.ts';
import type { AppRecord, IpAssignment } from '../wire.ts';
import { appOf, paramsOf } from './request.ts';

const config = { action: 'app.ip_assignments' } as const;
const types = ['v4', 'shared_v4', 'v6', 'private_v6'];

/**
 * A public IPv4 address is one of loopback, where local Fly's proxy listens; a shared one is the app's own, too. IPv6 addresses are kept
 * and answered alone. The docker engine gives a machine with a `private_v6` its `<app>.flycast` name on the network that the address
 * is for.
 */
export function ipRoutes(server: FastifyInstance, core: Core): void {
  const path = '/v1/apps/:app/ip_assignments';

  server.get(path, { config }, async (request) => ({ ips: appOf(core, request).ips.map(view) }));

  server.post(path, { config }, async (request) => {
    const body = bodyObject(request.body, 'main.assignIPRequest');
    return view(await assignIp(core, appOf(core, request), body));
  });

  server.delete(`${path}/:ip`, { config }, async (request, reply) => {
    releaseIp(core, appOf(core, request), paramsOf(request).ip);
    return reply.code(204).send();
  });
}

/** Throws 400. */
export async function assignIp(core: Core, app: AppRecord, body: JsonObject): Promise<IpAssignment> {
  const type = optionalString(body, 'type') ?? '';
  if (!types.includes(type)) throw invalidArgument(`type: "${type}" is not one of ${types.join(', ')}`);
  const assignment: IpAssignment = {
    ip: newAddress(core, type),
    region: optionalString(body, 'region') ?? 'global',
    service_name: optionalString(body, 'service_name') ?? '',
    shared: type === 'shared_v4',
    created_at: new Date(core.clock.now()).toISOString(),
    // Callers on the default network where none is named, not on the app's own (Fly docs, blueprints/warm-pool-user-machines).
    ...(type === 'private_v6' && { network: optionalString(body, 'network') ?? 'default' }),
  };
  core.apps.change(app, (record) => record.ips.push(assignment));
  core.proxy.follow(app.name);
  if (assignment.network)
    await Promise.all(core.fleet.ofApp(app.name).map((machine) => machine.followFlycast()));
  return assignment;
}

/** Throws 404. */
export function releaseIp(core: Core, app: AppRecord, ip: string): void {
  if (!app.ips.some((known) => known.ip === ip)) throw new FlyError(404, `not_found: IP ${ip} not found`);
  core.apps.change(app, (record) => {
    record.ips = record.ips.filter((known) => known.ip !== ip);
  });
  core.proxy.follow(app.name);
}

function view({ network: _callers, ...assignment }: IpAssignment): IpAssignment {
  return assignment;
}

/** One that no app has. */
function newAddress(core: Core, type: string): string {
  const taken = new Set(core.apps.all().flatMap(({ ips }) => ips.map(({ ip }) => ip)));
  for (;;) {
    const address = inventAddress(type, core.ids.hex(12));
    if (!taken.has(address)) return address;
  }
}

function inventAddress(type: string, hex: string): string {
  const groups = `${hex.slice(0, 4)}:${hex.slice(4, 8)}:${hex.slice(8, 12)}`;
  if (type === 'private_v6') return `fdaa:0:${groups}::1`;
  if (type === 'v6') return `2001:db8:${groups}::1`;
  const [one = 0, two = 0, three = 0] = hex.match(/../g)!.map((byte) => Number.parseInt(byte, 16));
  // Of 127.64.0.0/10; without the ends of a /24, which look like a network and its broadcast.
  return `127.${64 + (one % 64)}.${two}.${1 + (three % 254)}`;
}
