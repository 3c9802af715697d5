import type { Caller, CallOptions, CallSpec } from './call.ts';
import { gone } from './gone.ts';
import { path } from './path.ts';
import { list, listUnder, nothing, object, withText } from './replies.ts';
import type {
  AllocateIpRequest,
  AppSecret,
  IpAssignment,
  NetworkPolicy,
  NetworkPolicyRequest,
  Region,
  SecretsUpdate,
} from './types.ts';
import {
  checkAllocateIp,
  checkApp,
  checkId,
  checkPolicy,
  checkSecretName,
  checkSegment,
} from './validate.ts';

/** What belongs to an app beside its machines, and the platform's regions. */
export function appSettingCalls(caller: Caller) {
  /** A call on one app: `/v1/apps/{app}` and what follows. */
  const send = async <T>(
    app: string,
    spec: Omit<CallSpec<T>, 'path' | 'target'> & { under: string },
    options: CallOptions,
  ): Promise<T> => {
    checkApp(spec.name, app);
    const { under, ...rest } = spec;
    return caller.call({ ...rest, path: path`/v1/apps/${app}` + under, target: app }, options);
  };

  const listNetworkPolicies = (app: string, options: CallOptions = {}): Promise<NetworkPolicy[]> =>
    send(
      app,
      // The slash at the end is in Fly's docs.
      {
        name: 'listNetworkPolicies',
        action: 'network_policies',
        effect: 'none',
        method: 'GET',
        under: '/network_policies/',
        read: policies,
      },
      options,
    );

  return {
    /** Names and digests; never values. */
    listSecrets: (app: string, options: CallOptions = {}): Promise<AppSecret[]> =>
      send(
        app,
        {
          name: 'listSecrets',
          action: 'secrets',
          effect: 'none',
          method: 'GET',
          under: '/secrets',
          read: listUnder<AppSecret>('secrets', 'Secrets'),
        },
        options,
      ),

    /**
     * Sets these and leaves the others; null removes. Running machines see a change when they are started
     * again.
     */
    async setSecrets(
      app: string,
      values: Record<string, string | null>,
      options: CallOptions = {},
    ): Promise<SecretsUpdate> {
      for (const name of Object.keys(values)) checkSecretName('setSecrets', name);
      const secrets = Object.values(values).filter((value) => value !== null);
      const spec = {
        name: 'setSecrets',
        action: 'secrets',
        effect: 'repeatable',
        method: 'POST',
        under: '/secrets',
      } as const;
      return send(app, { ...spec, body: { values }, read: secretsUpdate, secrets }, options);
    },

    listNetworkPolicies,

    /**
     * Makes the policy of this name be as given; one that exists under the name (or `id`) is replaced, so
     * this is safe to repeat. It acts on machines that boot afterwards (Fly docs, "network-policies").
     */
    async putNetworkPolicy(
      app: string,
      policy: NetworkPolicyRequest,
      options: CallOptions = {},
    ): Promise<NetworkPolicy> {
      const name = 'putNetworkPolicy';
      checkPolicy(name, policy);
      const named = (all: NetworkPolicy[]): NetworkPolicy | undefined =>
        all.find((one) => one.name === policy.name);
      const id = policy.id ?? named(await listNetworkPolicies(app, options))?.id;
      const body = id === undefined ? policy : { ...policy, id };
      const effect = id === undefined ? 'once' : 'repeatable';
      const spec = {
        name,
        action: 'network_policies',
        effect,
        method: 'POST',
        under: '/network_policies',
      } as const;
      const reply = await send(app, { ...spec, body, read: (value) => value }, options);
      // What Fly answers is not documented: the policy, a list, or nothing. Where it isn't the policy, the
      // list has it.
      const made = policyIn(reply) ?? named(await listNetworkPolicies(app, options));
      return { ...policy, ...made, id: made?.id ?? id ?? '' };
    },

    /** Resolves also when the policy is already gone. */
    async deleteNetworkPolicy(app: string, id: string, options: CallOptions = {}): Promise<void> {
      checkId('deleteNetworkPolicy', id, 'policy');
      const spec = {
        name: 'deleteNetworkPolicy',
        action: 'network_policies',
        effect: 'repeatable',
        method: 'DELETE',
        read: nothing,
      } as const;
      return gone(send(app, { ...spec, under: path`/network_policies/${id}` }, options));
    },

    listIps: (app: string, options: CallOptions = {}): Promise<IpAssignment[]> =>
      send(
        app,
        {
          name: 'listIps',
          action: 'ip_assignments',
          effect: 'none',
          method: 'GET',
          under: '/ip_assignments',
          read: listUnder<IpAssignment>('ips'),
        },
        options,
      ),

    /** Never repeated by itself: a second address is another address, and some cost money. */
    async allocateIp(
      app: string,
      request: AllocateIpRequest,
      options: CallOptions = {},
    ): Promise<IpAssignment> {
      checkAllocateIp('allocateIp', request);
      const spec = {
        name: 'allocateIp',
        action: 'ip_assignments',
        effect: 'once',
        method: 'POST',
        under: '/ip_assignments',
      } as const;
      return send(app, { ...spec, body: request, read: withText<IpAssignment>('ip') }, options);
    },

    /** Resolves also when the address is already gone. */
    async releaseIp(app: string, ip: string, options: CallOptions = {}): Promise<void> {
      checkSegment('releaseIp', ip, 'ip');
      const spec = {
        name: 'releaseIp',
        action: 'ip_assignments',
        effect: 'repeatable',
        method: 'DELETE',
        read: nothing,
      } as const;
      return gone(send(app, { ...spec, under: path`/ip_assignments/${ip}` }, options));
    },

    /** All regions of the platform. */
    listRegions: (options: CallOptions = {}): Promise<Region[]> =>
      caller.call(
        {
          name: 'listRegions',
          effect: 'none',
          method: 'GET',
          path: '/v1/platform/regions',
          target: 'platform',
          // The wire has a capital, the OpenAPI document has not.
          read: listUnder<Region>('Regions', 'regions'),
        },
        options,
      ),
  };
}

function secretsUpdate(body: unknown): SecretsUpdate {
  const reply = object<{ version?: number; Version?: number; secrets?: AppSecret[] }>(body);
  const version = reply.version ?? reply.Version;
  if (version === undefined) throw new Error('no version');
  return { version, secrets: reply.secrets ?? [] };
}

/** A bare list, or a list under a name; the reply is not documented. */
function policies(body: unknown): NetworkPolicy[] {
  if (body === undefined || body === null || Array.isArray(body)) return list(body ?? null);
  return listUnder<NetworkPolicy>('network_policies', 'policies')(body);
}

function policyIn(body: unknown): NetworkPolicy | undefined {
  const { id } = (typeof body === 'object' && body !== null ? body : {}) as Partial<NetworkPolicy>;
  return typeof id === 'string' ? (body as NetworkPolicy) : undefined;
}
