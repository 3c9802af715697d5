import { LocalWorkspace, PulumiCommand } from '@pulumi/pulumi/automation/index.js';
import { within } from './deadline.ts';
import { isPreview } from './names.ts';

const CALL_TIMEOUT_MS = 60_000;
const PRODUCTION = 'prod';
const TEMPLATE = 'preview';
/** Before each tag of ours. A DIY backend keeps them in the state, Pulumi Cloud shows them. */
const TAGS = 'mobvibe:';

export interface PreviewStack {
  stack: string;
  /** RFC 3339; not there after a stack was made and before its first update. */
  lastUpdate: string | undefined;
  resources: number | undefined;
  updating: boolean;
  tags: Tags;
}

/** What we note of a preview beside its state; any may be missing. */
export interface Tags {
  source?: string;
  expiresAt?: string;
  /** `databaseOf`. */
  database?: string;
  url?: string;
}

/** The Pulumi project in a folder, and its stacks in the backend. Nothing here selects a stack or writes into the folder. */
export interface Project {
  readonly name: string;
  readonly dir: string;
  /** Asked for its version once, and not before each call. */
  readonly pulumi: PulumiCommand;
  /** Of every stack of the project, previews or not. */
  stackNames(): Promise<string[]>;
  /** With their tags, one call for each. */
  previews(): Promise<PreviewStack[]>;
  tags(stack: string): Promise<Tags>;
  setTag(stack: string, tag: keyof Tags, value: string): Promise<void>;
  /** `config` of `Pulumi.preview.yaml`. */
  template(): Promise<Record<string, unknown>>;
  /** `supabaseUrl` of `Pulumi.prod.yaml`, or undefined where it is not set there. */
  productionUrl(): Promise<string | undefined>;
}

export async function openProject(dir: string): Promise<Project> {
  const pulumi = await within(CALL_TIMEOUT_MS, 'pulumi version', PulumiCommand.get());
  const workspace = await LocalWorkspace.create({ workDir: dir, pulumiCommand: pulumi });
  const { name } = await workspace.projectSettings();
  const list = () => within(CALL_TIMEOUT_MS, 'pulumi stack ls', workspace.listStacks());
  const tags = async (stack: string): Promise<Tags> => {
    const all = await within(CALL_TIMEOUT_MS, `pulumi stack tag ls of ${stack}`, workspace.listTags(stack));
    const ours = Object.entries(all).filter(([tag]) => tag.startsWith(TAGS));
    return Object.fromEntries(ours.map(([tag, value]) => [tag.slice(TAGS.length), value]));
  };
  return {
    name,
    dir,
    pulumi,
    tags,
    stackNames: async () => (await list()).map((stack) => stack.name),
    async previews() {
      const found: PreviewStack[] = [];
      for (const { name: stack, lastUpdate, resourceCount, updateInProgress } of await list()) {
        if (!isPreview(stack)) continue;
        found.push({
          stack,
          lastUpdate,
          resources: resourceCount,
          updating: updateInProgress === true,
          tags: await tags(stack),
        });
      }
      return found;
    },
    setTag: (stack, tag, value) =>
      within(CALL_TIMEOUT_MS, `pulumi stack tag set of ${stack}`, workspace.setTag(stack, TAGS + tag, value)),
    template: async () => (await workspace.stackSettings(TEMPLATE)).config ?? {},
    async productionUrl() {
      // It throws where there is no such file.
      const settings = await workspace.stackSettings(PRODUCTION).catch(() => undefined);
      const url = settings?.config?.[`${name}:supabaseUrl`];
      return typeof url === 'string' ? url : undefined;
    },
  };
}
