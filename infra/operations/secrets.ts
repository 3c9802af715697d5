import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, unlessMissing } from './fly.ts';

export interface SecretsInputs extends AtFly {
  /** The app, whose only owner of secrets this is: what is not in `values` is removed. A change replaces. */
  app: string;
  /** Secret. By name; every machine of the app sees them in its environment from its next boot on. */
  values: Record<string, string>;
}

export interface SecretsOutputs extends SecretsInputs {
  /** For `minSecretsVersion` of a machine; 0 as long as there never was a secret. */
  version: number;
  /** What Fly shows of each value. */
  digests: Record<string, string>;
}

export function diff(olds: SecretsOutputs, news: SecretsInputs): Difference {
  const asked = compare(olds, news, { replace: ['app'], update: ['endpoint', 'values'] });
  const isForeign = (name: string): boolean => !Object.hasOwn(news.values, name);
  return { ...asked, changes: asked.changes || Object.keys(olds.digests).some(isForeign) };
}

export async function create(inputs: SecretsInputs): Promise<{ id: string; outs: SecretsOutputs }> {
  const there = await flyAt(inputs.endpoint).listSecrets(inputs.app);
  const digests = Object.fromEntries(there.map(({ name, digest = '' }) => [name, digest]));
  return { id: inputs.app, outs: await put(inputs, { values: {}, version: 0, digests }) };
}

/**
 * Compares names and digests; Fly shows no values. One that was changed or removed by somebody else is left out of
 * `values`, and one that was added is in `digests` only, so that the next diff sees it.
 */
export async function read(
  id: string,
  props: SecretsOutputs,
): Promise<{ id?: string; props?: SecretsOutputs }> {
  const there = await unlessMissing(flyAt(props.endpoint).listSecrets(props.app));
  if (there === undefined) return {};
  const digests = Object.fromEntries(there.map(({ name, digest = '' }) => [name, digest]));
  const kept = Object.entries(props.values).filter(([name]) => digests[name] === props.digests[name]);
  return { id, props: { ...props, values: Object.fromEntries(kept), digests } };
}

export async function update(olds: SecretsOutputs, news: SecretsInputs): Promise<{ outs: SecretsOutputs }> {
  return { outs: await put(news, olds) };
}

export async function remove({ endpoint, app, digests }: SecretsOutputs): Promise<void> {
  const names = Object.keys(digests);
  if (names.length === 0) return;
  const nothing = Object.fromEntries(names.map((name) => [name, null]));
  await unlessMissing(flyAt(endpoint).setSecrets(app, nothing));
}

/** The one call that leads from what is there to what is asked for; pure. Null removes. */
export function changesOf(
  olds: Pick<SecretsOutputs, 'values' | 'digests'>,
  values: Record<string, string>,
): Record<string, string | null> {
  const isThere = (name: string, value: string): boolean =>
    olds.values[name] === value && Object.hasOwn(olds.digests, name);
  const changed = Object.entries(values).filter(([name, value]) => !isThere(name, value));
  const removed = Object.keys(olds.digests).filter((name) => !Object.hasOwn(values, name));
  return { ...Object.fromEntries(removed.map((name) => [name, null])), ...Object.fromEntries(changed) };
}

async function put(
  inputs: SecretsInputs,
  olds: Pick<SecretsOutputs, 'values' | 'digests' | 'version'>,
): Promise<SecretsOutputs> {
  const { endpoint, app, values } = inputs;
  const changes = changesOf(olds, values);
  if (Object.keys(changes).length === 0) return { ...inputs, version: olds.version, digests: olds.digests };
  const { version, secrets } = await flyAt(endpoint).setSecrets(app, changes);
  // Fly doesn't say whether its answer holds all secrets or those of the call.
  const answered = new Map(secrets.map(({ name, digest }) => [name, digest]));
  const digests = Object.keys(values).map((name) => [name, answered.get(name) ?? olds.digests[name] ?? '']);
  return { ...inputs, version, digests: Object.fromEntries(digests) };
}
