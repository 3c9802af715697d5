import { databaseOf, refuseSharedDatabase } from './databases.ts';
import { expiryAfter } from './expiry.ts';
import { describeSource, type Source, stackOf } from './names.ts';
import type { PreviewStack, Project } from './project.ts';
import type { Environment } from './settings.ts';
import { plainSettings, required, requireVariables, secretSettings } from './settings.ts';
import { PreviewStackFolder, type Reporting } from './stack.ts';

/** Tells where production is where `Pulumi.prod.yaml` does not. */
export const PRODUCTION_URL = 'MOBVIBE_PROD_SUPABASE_URL';

export interface UpRequest {
  project: Project;
  source: Source;
  ttlHours: number;
  /** `key=value`. */
  set: readonly string[];
  env: Environment;
  now: Date;
  reporting: Reporting;
}

export interface UpResult {
  stack: string;
  url: string;
  expiresAt: string;
}

/** Makes the preview, or brings it up to date and renews its life. */
export async function up({
  project,
  source,
  ttlHours,
  set,
  env,
  now,
  reporting,
}: UpRequest): Promise<UpResult> {
  const stack = stackOf(source);
  const expiresAt = expiryAfter(ttlHours, now);
  requireVariables(env, ['FLY_API_TOKEN']);
  const secrets = secretSettings(env);
  const settings = plainSettings(project.name, await project.template(), env, set);
  required(settings, 'flyOrg');
  const supabaseUrl = required(settings, 'supabaseUrl');

  const previews = await project.previews();
  const of = describeSource(source);
  refuseSomebodyElses(
    previews.find((one) => one.stack === stack),
    of,
  );
  const production = [await project.productionUrl(), env[PRODUCTION_URL]].filter(
    (url) => url !== undefined && url !== '',
  );
  refuseSharedDatabase({
    supabaseUrl,
    dbUrl: secrets.supabaseDbUrl,
    production: production as string[],
    others: previews.flatMap(({ stack: other, tags: { database } }) =>
      other === stack || database === undefined ? [] : [{ stack: other, database }],
    ),
  });

  const folder = new PreviewStackFolder(project, stack);
  await folder.configure({ ...settings, expiresAt });
  // Before anything is made that costs money: whatever happens from here on, the reaper knows what to do.
  await project.setTag(stack, 'expiresAt', expiresAt);
  await project.setTag(stack, 'source', of);
  await project.setTag(stack, 'database', databaseOf(supabaseUrl));
  for (const [key, value] of Object.entries(secrets)) await folder.setSecret(key, value);
  const url = await folder.up(reporting);
  await project.setTag(stack, 'url', url);
  return { stack, url, expiresAt };
}

function refuseSomebodyElses(there: PreviewStack | undefined, source: string): void {
  if (there === undefined || there.tags.source === source) return;
  if (there.tags.source !== undefined) {
    throw new Error(`the stack ${there.stack} is the preview of ${there.tags.source}, not of ${source}`);
  }
  if (there.resources) {
    throw new Error(
      `the stack ${there.stack} is there and was not made by this command: destroy it, or choose another branch`,
    );
  }
}
