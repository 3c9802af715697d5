import { fileURLToPath } from 'node:url';
import { database } from './database.ts';
import { dockerEngine } from './docker.ts';
import { examineStack, type Look } from './examine-stack.ts';
import { type Finding, lookAt, skipped, type Verdict } from './finding.ts';
import { FLY, flyToken } from './fly.ts';
import { nodeOnPath } from './node.ts';
import { installedPackages } from './packages.ts';
import { shellPath } from './program.ts';
import { pulumiIn } from './pulumi.ts';
import { registryLogIn } from './registry.ts';
import { hide } from './secrecy.ts';
import { supabaseProject } from './supabase.ts';

export interface Examined {
  env: NodeJS.ProcessEnv;
  /** Folder of `Pulumi.yaml`. */
  projectDir: string;
  /** Default: the selected one. */
  stack?: string | undefined;
  /** Of each check. */
  timeoutMs: number;
}

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MIGRATIONS = new URL('../../supabase/migrations/', import.meta.url);

/** Looks at all that a `pulumi up` needs, and changes nothing. */
export async function examine({ env: given, projectDir, stack, timeoutMs }: Examined): Promise<Finding[]> {
  const env: NodeJS.ProcessEnv = { ...given, PATH: shellPath(given) };
  const look: Look = (check, mend, work) => lookAt({ check, mend, look: work }, timeoutMs);

  const own = Promise.all([
    look('node', 'node --version', (signal) => nodeOnPath({ env, cwd: projectDir, signal })),
    look('packages', 'npm ci', () => installedPackages(ROOT)),
  ]);
  const pulumi = pulumiIn({ env, cwd: projectDir });
  const nodeModules = `${ROOT}/node_modules`;
  const { findings, settings } = await examineStack({
    pulumi,
    env,
    stack,
    projectDir,
    nodeModules,
    look,
  });
  const set = (key: string) => settings.get(key)?.value;

  const org = set('flyOrg');
  const flyUrl = set('flyApiUrl') ?? env.FLY_FLAPS_BASE_URL ?? FLY;
  // As our scripts are given them: for a look without a stack.
  const supabaseUrl = env.SUPABASE_URL ?? set('supabaseUrl');
  const serviceRoleKey = env.SUPABASE_SERVICE_ROLE_KEY ?? set('supabaseServiceRoleKey');
  const dbUrl = env.SUPABASE_DB_URL ?? set('supabaseDbUrl');
  const registry = set('registry') ?? 'registry.fly.io';
  const isBuilt = !(settings.has('sandboxImageRef') && settings.has('controllerImageRef'));
  const ifBuilt = async (work: () => Promise<Verdict>) =>
    isBuilt ? work() : skipped('both images are given by digest: nothing is built');
  let migrations = skipped('the database could not be asked');

  const outside = await Promise.all([
    look('docker', 'docker version', () => ifBuilt(dockerEngine)),
    look('registry', `docker login ${registry}`, (signal) =>
      ifBuilt(() => registryLogIn(registry, env, signal)),
    ),
    look('fly', `curl -sS ${flyUrl}/v1/platform/regions`, (signal) =>
      flyToken({ token: env.FLY_API_TOKEN, baseUrl: flyUrl, org, timeoutMs }, signal),
    ),
    look('supabase', `curl -sS ${supabaseUrl}/rest/v1/`, async (signal) =>
      supabaseUrl && serviceRoleKey
        ? supabaseProject(supabaseUrl, serviceRoleKey, signal)
        : skipped('its URL and key could not be read from the stack'),
    ),
    look('database', 'pulumi config set --secret supabaseDbUrl', async (signal) => {
      if (!dbUrl) return skipped('its URL could not be read from the stack');
      const seen = await database(dbUrl, MIGRATIONS, signal);
      migrations = seen.migrations ?? migrations;
      return seen.right;
    }),
  ]);
  const all = [...(await own).flat(), ...findings, ...outside.flat(), { check: 'migrations', ...migrations }];
  const secrets = [
    env.FLY_API_TOKEN,
    env.PULUMI_CONFIG_PASSPHRASE,
    env.PULUMI_ACCESS_TOKEN,
    serviceRoleKey,
    dbUrl,
    ...[...settings.values()].filter(({ secret }) => secret).map(({ value }) => value),
  ];
  return all.map(({ mend, ...finding }) => ({
    ...finding,
    says: hide(finding.says, secrets),
    ...(mend !== undefined && { mend: hide(mend, secrets) }),
  }));
}
