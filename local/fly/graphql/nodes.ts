import type { Core } from '../core.ts';
import type { AppRecord, EgressIp, IpAssignment, MachineRecord } from '../wire.ts';

/**
 * Fly's objects as GraphQL shows them, with the aliases that flyctl's documents give (superfly/fly-go, `resource_*.go`). There is more in
 * them than a document may have selected: Go ignores that.
 */

const none = { nodes: [] };

export function appNode(core: Core, app: AppRecord) {
  const machines = core.fleet.ofApp(app.name).flatMap(({ record }) => liveOnly(record));
  const host = `${app.name}.fly.dev`;
  return {
    // On Fly, too, the id of an app is its name here.
    id: app.name,
    internalNumericId: app.internal_numeric_id,
    name: app.name,
    hostname: host,
    appUrl: `https://${host}`,
    cnameTarget: '',
    // Null: the organisation's own.
    network: app.network === 'default' ? null : app.network,
    deployed: machines.length > 0,
    status: machines.length > 0 ? 'deployed' : 'pending',
    platformVersion: 'machines',
    version: 0,
    currentRelease: null,
    config: { definition: {} },
    services: [],
    imageDetails: null,
    postgresAppRole: null,
    organization: organizationNode(app.org_slug),
    ipAddresses: { nodes: app.ips.filter(({ shared }) => !shared).map((ip) => ipNode(ip, app.org_slug)) },
    sharedIpAddress: app.ips.find(({ shared }) => shared)?.ip ?? '',
    egressIpAddresses: { nodes: (app.egress_ips ?? []).map(egressIpNode) },
    hostIssues: none,
    machines: { nodes: machines.map((machine) => machineNode(machine, app)) },
    limitedAccessTokens: { nodes: app.deploy_tokens.map(tokenNode) },
  };
}

export function organizationNode(slug: string) {
  return {
    id: slug,
    internalNumericId: '1',
    slug,
    rawSlug: slug,
    name: slug,
    type: slug === 'personal' ? 'PERSONAL' : 'SHARED',
    paidPlan: false,
    billable: true,
    viewerRole: 'admin',
    addOns: none,
  };
}

export function machineNode(machine: MachineRecord, app: AppRecord) {
  const { id, name, state, region, created_at: createdAt, config, private_ip: ip } = machine;
  return {
    ...{ id, name, state, region, createdAt, config },
    app: { name: app.name, organization: organizationNode(app.org_slug) },
    ips: { nodes: [{ family: 'v6', kind: 'privatenet', ip, maskSize: 112 }] },
    host: { id: 'local' },
  };
}

export function ipNode({ ip, region, created_at, service_name, network }: IpAssignment, org: string) {
  return {
    id: ip,
    address: ip,
    type: ip.startsWith('fdaa:') ? 'private_v6' : ip.includes(':') ? 'v6' : 'v4',
    region,
    createdAt: created_at,
    serviceName: service_name,
    network: network === undefined ? null : { name: network, organization: { slug: org } },
  };
}

function egressIpNode({ ip, version, region, created_at }: EgressIp) {
  return { id: ip, ip, version, region, updatedAt: new Date(created_at).toISOString() };
}

/** The token itself is not kept. */
function tokenNode({ sha256, expires_at, revoked_at }: AppRecord['deploy_tokens'][number]) {
  return {
    id: tokenId(sha256),
    name: 'deploy token',
    token: '',
    expiresAt: new Date(expires_at).toISOString(),
    revokedAt: revoked_at === undefined ? null : new Date(revoked_at).toISOString(),
    user: { email: 'local' },
  };
}

export function tokenId(sha256: string): string {
  return sha256.slice(0, 16);
}

function liveOnly(record: MachineRecord): MachineRecord[] {
  return record.state === 'destroyed' ? [] : [record];
}
