import { FlyError } from '../../fly/index.ts';
import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, unlessMissing } from './fly.ts';
import { type Seen, waitUntil } from './wait.ts';

export interface AppInputs extends AtFly {
  /** Global across all of Fly; at most 62 characters of `a-z`, `0-9` and `-`. A change replaces the app. */
  name: string;
  /** Slug of the organisation that it belongs to. A change replaces the app. */
  org: string;
  /**
   * Private network of the app, made on first use. Default: the organisation's own. Fly can't move an app, so a
   * change replaces it (Fly docs, "networking/custom-private-networks").
   */
  network?: string;
}

export interface AppOutputs extends AppInputs {
  /** Fly's id of the app; its name is what everything else asks for. */
  appId: string;
}

/** A deleted app holds its name until its last machine is gone. */
const NAME_FREED_MS = 120_000;
const DELETED_MS = 120_000;

export function diff(olds: AppOutputs, news: AppInputs): Difference {
  return compare(olds, news, {
    replace: ['name', 'org', 'network'],
    update: ['endpoint'],
    deleteBeforeReplace: true,
  });
}

/** An app of this name in the same organisation and network is adopted; any other is refused. */
export async function create(inputs: AppInputs): Promise<{ id: string; outs: AppOutputs }> {
  const { endpoint, name, org, network } = inputs;
  const fly = flyAt(endpoint);
  const attempt = async (): Promise<Seen<{ id: string }>> => {
    try {
      return { done: await fly.createApp({ name, org_slug: org, ...(network && { network }) }) };
    } catch (error) {
      if (!(error instanceof FlyError && error.reason === 'name_taken')) throw error;
      // Somebody else's app answers 403; only one that is going away is taken and not there.
      if ((await unlessMissing(fly.getApp(name))) !== undefined) throw error;
      return { waiting: 'the name is taken by an app that is being deleted' };
    }
  };
  const { id: appId } = await waitUntil(`app ${name}: not created`, NAME_FREED_MS, attempt);
  return { id: name, outs: { ...inputs, appId } };
}

export async function read(id: string, props: AppOutputs): Promise<{ id?: string; props?: AppOutputs }> {
  const app = await unlessMissing(flyAt(props.endpoint).getApp(id));
  if (app === undefined) return {};
  // Without one asked for, whatever Fly calls the organisation's own is right.
  const network = props.network && (app.network ?? props.network);
  return { id, props: { ...props, ...(network && { network }) } };
}

/** Only where Fly is asked can change without another app. */
export function update(olds: AppOutputs, { endpoint }: AppInputs): { outs: AppOutputs } {
  return { outs: { ...olds, endpoint } };
}

/**
 * With everything in it: `force` makes Fly stop and destroy the machines and volumes first (Fly docs,
 * "machines/api/apps-resource"), and from then on nobody can create another machine in it.
 */
export async function remove(
  { endpoint, name }: Pick<AppOutputs, 'endpoint' | 'name'>,
  timeoutMs = DELETED_MS,
): Promise<void> {
  const fly = flyAt(endpoint);
  await fly.deleteApp(name, { force: true });
  await waitUntil(`app ${name}: not deleted`, timeoutMs, async () => {
    const app = await unlessMissing(fly.getApp(name));
    if (app === undefined) return { done: true };
    return { waiting: `Fly still shows it, with ${app.machine_count ?? 'an unknown number of'} machines` };
  });
}
