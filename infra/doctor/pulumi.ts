import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { ok, type Verdict, warning, wrong } from './finding.ts';
import { type Ran, run, type Where } from './program.ts';

/** The oldest that the program was tried with. */
const TRIED = [3, 259, 0];
const INSTALL = 'curl -fsSL https://get.pulumi.com | sh';
export const NO_CLI = 'no pulumi on the PATH';

/** Runs one command of the CLI. Undefined without one. */
export type Pulumi = (signal: AbortSignal, ...args: string[]) => Promise<Ran | undefined>;

export function pulumiIn({ env, cwd }: Pick<Where, 'env' | 'cwd'>): Pulumi {
  const quiet = { ...env, PULUMI_SKIP_UPDATE_CHECK: 'true', NO_COLOR: '1' };
  return (signal, ...args) => run('pulumi', [...args, '--non-interactive'], { env: quiet, cwd, signal });
}

export async function pulumiVersion(pulumi: Pulumi, signal: AbortSignal): Promise<Verdict> {
  return judgeVersion((await pulumi(signal, 'version'))?.stdout.trim());
}

export function judgeVersion(version: string | undefined): Verdict {
  if (version === undefined) return wrong(NO_CLI, INSTALL);
  const parts = /^v(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number);
  if (parts === undefined) return warning(`"${version}" is no version that is known`, INSTALL);
  const differs = parts.findIndex((part, at) => part !== TRIED[at]);
  const older = differs >= 0 && parts[differs]! < TRIED[differs]!;
  return older
    ? warning(`${version}, and nothing older than v${TRIED.join('.')} was tried`, INSTALL)
    : ok(version);
}

export interface Plugin {
  name: string;
  version: string;
}

/** Providers that are programs of their own; `wanted` is what the installed npm packages speak to. */
export async function pulumiPlugins(
  pulumi: Pulumi,
  wanted: Plugin[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<Verdict[]> {
  const ran = await pulumi(signal, 'plugin', 'ls', '--json');
  const installed: Plugin[] = ran?.code === 0 ? JSON.parse(ran.stdout) : [];
  const folders = (env.PATH ?? '').split(':');
  return Promise.all(
    wanted.map(async (plugin) =>
      judgePlugin(plugin, installed, {
        onPath: await anyHas(folders, `pulumi-resource-${plugin.name}`),
        fetched: !/^(1|true)$/i.test(env.PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION ?? ''),
      }),
    ),
  );
}

export function judgePlugin(
  { name, version }: Plugin,
  installed: Plugin[],
  { onPath, fetched }: { onPath: boolean; fetched: boolean },
): Verdict {
  // The engine takes one on the PATH first.
  if (onPath) return ok(`${name}, as it is on the PATH`);
  if (installed.some((one) => one.name === name && one.version.replace(/^v/, '') === version)) {
    return ok(`${name} ${version}`);
  }
  const mend = `pulumi plugin install resource ${name} ${version}`;
  return fetched
    ? warning(`${name} ${version} is not installed; the first up fetches it`, mend)
    : wrong(
        `${name} ${version} is not installed, and PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION keeps Pulumi from fetching it`,
        mend,
      );
}

/** Where states are kept. */
export async function pulumiBackend(pulumi: Pulumi, signal: AbortSignal): Promise<Verdict> {
  const ran = await pulumi(signal, 'whoami', '--json');
  if (ran === undefined) return wrong(NO_CLI, INSTALL);
  if (ran.code === 0) {
    const { user, url } = JSON.parse(ran.stdout) as { user: string; url: string };
    return ok(`${user} at ${url}`);
  }
  const says = complaint(ran);
  const folder = /unable to open state directory "file:\/\/([^"]+)"/.exec(says)?.[1];
  return wrong(`not logged in to a backend: ${says}`, folder ? `mkdir -p ${folder}` : 'pulumi login');
}

/** What the CLI says of its failure. */
export function complaint({ stderr, stdout }: Ran): string {
  const line = (stderr || stdout).split('\n').find((text) => text.trim() !== '') ?? 'it does not say why';
  return line.replace(/^error: /, '').trim();
}

async function anyHas(folders: string[], program: string): Promise<boolean> {
  const found = folders.filter((folder) => folder !== '').map((folder) => access(join(folder, program)));
  return (await Promise.allSettled(found)).some(({ status }) => status === 'fulfilled');
}
