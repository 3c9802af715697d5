import { isDeepStrictEqual } from 'node:util';
import type { NetworkPolicyRequest, NetworkRule } from '../../fly/index.ts';
import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, isInDoubt, unlessMissing } from './fly.ts';
import { waitUntil } from './wait.ts';

export interface NetworkPolicyInputs extends AtFly {
  /** Name of the app. A change replaces the policy. */
  app: string;
  /** Unique in the app. A change replaces the policy. */
  name: string;
  /** Which machines of the app it is for. Default `{ all: true }`. */
  selector: NetworkPolicyRequest['selector'];
  /**
   * What may pass; one rule for a direction drops all else in that direction, so `ports: []` closes it. It acts on
   * machines that boot afterwards, and not on what comes through Fly's proxy (Fly docs, "network-policies").
   */
  rules: NetworkRule[];
}

export interface NetworkPolicyOutputs extends NetworkPolicyInputs {
  policyId: string;
}

const GONE_MS = 30_000;

export function diff(olds: NetworkPolicyOutputs, news: NetworkPolicyInputs): Difference {
  return compare(olds, news, { replace: ['app', 'name'], update: ['endpoint', 'selector', 'rules'] });
}

/** A policy of this name in the app is adopted and made as given. */
export async function create(
  inputs: NetworkPolicyInputs,
): Promise<{ id: string; outs: NetworkPolicyOutputs }> {
  const put = () => putPolicy(inputs);
  const policyId = await put().catch((error: unknown) => {
    if (!isInDoubt(error)) throw error;
    // It looks for the name first, so that the second try finds what the first one made.
    return put();
  });
  return { id: policyId, outs: { ...inputs, policyId } };
}

export async function read(
  id: string,
  props: NetworkPolicyOutputs,
): Promise<{ id?: string; props?: NetworkPolicyOutputs }> {
  const policies = await unlessMissing(flyAt(props.endpoint).listNetworkPolicies(props.app));
  const found = policies?.find((policy) => policy.id === id);
  if (found === undefined) return {};
  const selector = found.selector ?? props.selector;
  const rules = (found.rules ?? []).map(plain);
  const isAsGiven = isDeepStrictEqual(rules, props.rules.map(plain));
  return { id, props: { ...props, selector, rules: isAsGiven ? props.rules : rules } };
}

export async function update(id: string, news: NetworkPolicyInputs): Promise<{ outs: NetworkPolicyOutputs }> {
  return { outs: { ...news, policyId: await putPolicy(news, id) } };
}

export async function remove(id: string, { endpoint, app }: NetworkPolicyOutputs): Promise<void> {
  const fly = flyAt(endpoint);
  await unlessMissing(fly.deleteNetworkPolicy(app, id));
  await waitUntil(`network policy ${id} of ${app}: not deleted`, GONE_MS, async () => {
    const policies = await unlessMissing(fly.listNetworkPolicies(app));
    return policies?.some((policy) => policy.id === id) ? { waiting: 'Fly still lists it' } : { done: true };
  });
}

async function putPolicy(
  { endpoint, app, name, selector, rules }: NetworkPolicyInputs,
  id?: string,
): Promise<string> {
  const request = { ...(id && { id }), name, selector, rules };
  return (await flyAt(endpoint).putNetworkPolicy(app, request)).id;
}

/** What Fly adds to a rule, or leaves out of one without ports, is no drift. */
function plain({ action, direction, ports }: NetworkRule): NetworkRule {
  const list = (ports ?? []) as NetworkRule['ports'] | null;
  return { action, direction, ports: (list ?? []).map(({ protocol, port }) => ({ protocol, port })) };
}
