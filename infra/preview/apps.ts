import type { FlyClient } from '../../fly/index.ts';
import { remove } from '../operations/app.ts';
import { flyAt } from '../operations/fly.ts';
import { within } from './deadline.ts';
import { inOrderOfDeletion, previewOfApp } from './names.ts';
import { required, type Settings } from './settings.ts';

const FLY = 'https://api.machines.dev';
const LOOK_TIMEOUT_MS = 60_000;
const REMOVE_TIMEOUT_MS = 150_000;

/** The Fly apps of previews, known by their names; no other is ever seen through this. */
export interface PreviewApps {
  list(): Promise<PreviewApp[]>;
  /** Of what is in it, the youngest, Unix milliseconds; undefined where Fly shows no date. */
  youngest(app: string): Promise<number | undefined>;
  /** With everything in it; resolves when Fly says that it is gone. */
  remove(app: string): Promise<void>;
}

export interface PreviewApp {
  app: string;
  stack: string;
}

export function previewApps(project: string, settings: Settings): PreviewApps {
  const endpoint = settings.flyApiUrl ?? FLY;
  const org = required(settings, 'flyOrg');
  const fly: FlyClient = flyAt(endpoint);
  return {
    async list() {
      const all = await within(LOOK_TIMEOUT_MS, `apps of ${org}`, fly.listApps(org));
      return all.flatMap(({ name: app = '' }) => {
        const stack = previewOfApp(project, app);
        return stack === undefined ? [] : [{ app, stack }];
      });
    },
    async youngest(app) {
      const look = Promise.all([fly.getApp(app), fly.listMachines(app)]);
      const [{ created_at }, machines] = await within(LOOK_TIMEOUT_MS, `app ${app}`, look);
      const dates = [created_at, ...machines.map((machine) => Date.parse(machine.created_at ?? ''))];
      const known = dates.filter((date) => date !== undefined && Number.isFinite(date)) as number[];
      return known.length === 0 ? undefined : Math.max(...known);
    },
    remove: (app) => within(REMOVE_TIMEOUT_MS, `app ${app}`, remove({ endpoint, name: app })),
  };
}

/** What a destroy has left, as an update that was killed may have made what the state does not know. */
export async function sweep(apps: PreviewApps, stack: string): Promise<string[]> {
  const left = (await apps.list()).filter((one) => one.stack === stack).map(({ app }) => app);
  for (const app of inOrderOfDeletion(left)) await apps.remove(app);
  return left;
}
