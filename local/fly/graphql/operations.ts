import type { Core } from '../core.ts';
import { assignIp, releaseIp } from '../routes/ip-assignments.ts';
import { FlyError, invalidArgument, unsupported } from '../rules/errors.ts';
import { type JsonObject, optionalObject, optionalString } from '../rules/json.ts';
import { type Reach, reachesApp, reachesOrg } from '../rules/reach.ts';
import { regions } from '../rules/regions.ts';
import type { AppRecord } from '../wire.ts';
import { appNode, ipNode, machineNode, organizationNode, tokenId } from './nodes.ts';

/** What a document's root field answers. Throws `FlyError`, whose text becomes GraphQL's. */
type Operation = (core: Core, reach: Reach, variables: JsonObject) => unknown;

/** By root field; those that flyctl asks for apps, machines, secrets, addresses and tokens. */
export const operations: Readonly<Record<string, Operation>> = {
  async app(core, reach, variables) {
    const app = appNamed(core, reach, optionalString(variables, 'appName'));
    const ref = optionalString(variables, 'imageRef');
    return { ...appNode(core, app), ...(ref && { image: await imageNode(core, ref) }) };
  },

  apps(core, reach, variables) {
    const org = optionalString(variables, 'org');
    const nodes = core.apps
      .all()
      .filter((app) => reachesApp(reach, app) && (org === undefined || app.org_slug === org))
      .map((app) => appNode(core, app));
    return { nodes, pageInfo: { hasNextPage: false, endCursor: '' } };
  },

  machine(core, reach, variables) {
    const { record } = core.fleet.byId(optionalString(variables, 'machineId') ?? '');
    return machineNode(record, appNamed(core, reach, record.app));
  },

  organizations(core, reach) {
    const given = reach.orgs === 'all' ? [] : reach.orgs;
    const known = new Set(['personal', ...core.apps.all().map(({ org_slug }) => org_slug), ...given]);
    return { nodes: [...known].filter((slug) => mayKnowOrg(core, reach, slug)).map(organizationNode) };
  },

  organization(core, reach, variables) {
    const slug = optionalString(variables, 'slug') ?? optionalString(variables, 'orgSlug') ?? '';
    if (!mayKnowOrg(core, reach, slug)) throw notAuthorized('organization');
    return organizationNode(slug);
  },

  async allocateIpAddress(core, reach, variables) {
    const input = inputOf(variables);
    const app = appNamed(core, reach, optionalString(input, 'appId'));
    const assignment = await assignIp(core, app, input);
    return {
      ipAddress: ipNode(assignment, app.org_slug),
      app: { sharedIpAddress: assignment.shared ? assignment.ip : '' },
    };
  },

  releaseIpAddress(core, reach, variables) {
    const input = inputOf(variables);
    releaseIp(core, appNamed(core, reach, optionalString(input, 'appId')), optionalString(input, 'ip') ?? '');
    return { clientMutationId: null };
  },

  allocateEgressIpAddress(core, reach, variables) {
    const input = inputOf(variables);
    const app = appNamed(core, reach, optionalString(input, 'appId'));
    if (optionalString(input, 'machineId')) throw unsupported('an egress address of a single machine');
    const region = optionalString(input, 'region') ?? '';
    if (!regions.some(({ code }) => code === region))
      throw invalidArgument(`region: "${region}" is not a region`);
    const number = Number.parseInt(core.ids.hex(6), 16);
    // Of ranges for documentation: nothing goes out by them here.
    const v4 = `203.0.113.${number & 255}`;
    const v6 = `2001:db8:e::${(number >> 8).toString(16)}`;
    core.apps.change(app, (record) => {
      const given = { region, created_at: core.clock.now() };
      record.egress_ips = [
        ...(record.egress_ips ?? []),
        { ip: v4, version: 4, ...given },
        { ip: v6, version: 6, ...given },
      ];
    });
    return { v4, v6 };
  },

  releaseEgressIpAddress(core, reach, variables) {
    const input = inputOf(variables);
    const app = appNamed(core, reach, optionalString(input, 'appId'));
    const ip = optionalString(input, 'ip') ?? '';
    const found = app.egress_ips?.find((one) => one.ip === ip);
    if (found === undefined) throw new FlyError(404, `Could not find egress IP "${ip}"`);
    core.apps.change(app, (record) => {
      record.egress_ips = record.egress_ips?.filter((one) => one !== found) ?? [];
    });
    return { v4: found.version === 4 ? ip : '', v6: found.version === 6 ? ip : '', clientMutationId: null };
  },

  deleteLimitedAccessToken(core, reach, variables) {
    const id = optionalString(inputOf(variables), 'id');
    // Fly refuses an organisation's token to make one this way; whether it may revoke is not documented, and so it may not.
    if (reach.orgs !== 'all') throw notAuthorized('deletelimitedaccesstoken');
    const app = core.apps
      .all()
      .find((one) => one.deploy_tokens.some((token) => tokenId(token.sha256) === id));
    if (app === undefined) throw new FlyError(404, `Could not find token "${id}"`);
    core.apps.change(app, ({ deploy_tokens }) => {
      for (const token of deploy_tokens)
        if (tokenId(token.sha256) === id) token.revoked_at ??= core.clock.now();
    });
    return { token: null };
  },
};

/** Every field that these documents may select; of others local Fly has nothing to tell. */
export const knownFields: ReadonlySet<string> = new Set(
  `addOnPlan addOns address app appUrl billable clientMutationId cnameTarget compressedSizeFull config createdAt currentRelease
  definition deployed description digest displayName egressIpAddresses email endCursor evaluationId expiresAt family handlers
  hasNextPage host hostIssues hostname id image imageDetails inProgress internalId internalNumericId internalPort ip ipAddress
  ipAddresses ips kind limitedAccessTokens machines manifest maskSize message metadata name network nodes options organization
  pageInfo paidPlan platformVersion port ports primaryRegion privateIp protocol rawSlug readRegions ref region registry repository
  revokedAt role serviceName services sharedIpAddress slug state status tag token type updatedAt user v4 v6 version viewerRole`.split(
    /\s+/,
  ),
);

function appNamed(core: Core, reach: Reach, name = ''): AppRecord {
  const app = core.apps.find(name);
  if (!reachesApp(reach, app)) throw notAuthorized('app');
  return app;
}

/** Who may work in an app may know whose it is. */
export function mayKnowOrg(core: Core, reach: Reach, slug: string): boolean {
  const inOrg = (app: AppRecord) => app.org_slug === slug && reachesApp(reach, app);
  return reachesOrg(reach, slug) || core.apps.all().some(inOrg);
}

async function imageNode(core: Core, ref: string) {
  const { digest } = await core.fleet.imageRef(ref);
  // What it weighs is nothing that an engine knows.
  return { id: `img_${digest.slice(-12)}`, digest, ref, compressedSize: '0', manifest: null };
}

function inputOf(variables: JsonObject): JsonObject {
  const input = optionalObject(variables, 'input');
  if (input === undefined) throw invalidArgument('input is required');
  return input;
}

/** In Fly's words, as others have seen them. */
const notAuthorized = (what: string) => new FlyError(403, `Not authorized to access this ${what}`);
