import * as pulumiSdk from '@pulumi/pulumi';
import { readStackConfig } from '../config.ts';
import { ok, skipped, type Verdict, wrong } from './finding.ts';
import { complaint, NO_CLI, type Pulumi } from './pulumi.ts';

/** Settings without a default. */
export const REQUIRED = ['flyOrg', 'supabaseUrl', 'supabaseServiceRoleKey', 'supabaseDbUrl'];
const SECRET = new Set(['supabaseServiceRoleKey', 'supabaseDbUrl', 'cellToken']);

/** Of the project, by key. `value` is undefined where a secret could not be decrypted. */
export type Settings = ReadonlyMap<string, { value: string | undefined; secret: boolean }>;

/** The stack that is asked for, or selected. `name` is set when there is one. */
export async function findStack(
  pulumi: Pulumi,
  asked: string | undefined,
  signal: AbortSignal,
): Promise<{ name?: string; verdict: Verdict }> {
  const of = asked === undefined ? [] : ['--stack', asked];
  const ran = await pulumi(signal, 'stack', '--show-name', ...of);
  if (ran === undefined) return { verdict: wrong(NO_CLI, 'pulumi stack select NAME') };
  const name = ran.stdout.trim();
  if (ran.code === 0) return { name, verdict: ok(name) };
  const says = complaint(ran).replace(/; please .*/, '');
  if (asked !== undefined) return { verdict: wrong(says, `pulumi stack init ${asked}`) };
  const list = await pulumi(signal, 'stack', 'ls', '--json');
  const [first]: { name: string }[] = list?.code === 0 ? JSON.parse(list.stdout) : [];
  return { verdict: wrong(says, first ? `pulumi stack select ${first.name}` : 'pulumi stack init prod') };
}

/** With the values of secrets, in memory alone, where they can be decrypted. No settings when there is no reading them. */
export async function readSettings(
  pulumi: Pulumi,
  { project, stack }: { project: string; stack: string },
  signal: AbortSignal,
): Promise<{ settings?: Settings; verdict: Verdict }> {
  const read = (...more: string[]) => pulumi(signal, 'config', '--json', '--stack', stack, ...more);
  const open = await read('--show-secrets');
  if (open?.code === 0) {
    const settings = parse(project, open.stdout);
    const secrets = [...settings.values()].filter(({ secret }) => secret).length;
    return { settings, verdict: ok(`${secrets} can be decrypted`) };
  }
  const says = open === undefined ? NO_CLI : complaint(open);
  const closed = await read();
  return {
    ...(closed?.code === 0 && { settings: parse(project, closed.stdout) }),
    verdict: wrong(
      `the secrets of ${stack} can't be decrypted: ${says}`,
      /passphrase/.test(says)
        ? 'export PULUMI_CONFIG_PASSPHRASE_FILE=FILE'
        : `pulumi config --stack ${stack}`,
    ),
  };
}

function parse(project: string, json: string): Settings {
  const found = JSON.parse(json) as Record<string, { value?: string; secret: boolean }>;
  const own = Object.entries(found).filter(([key]) => key.startsWith(`${project}:`));
  return new Map(own.map(([key, { value, secret }]) => [key.slice(project.length + 1), { value, secret }]));
}

/** All that is missing or kept in the clear; else the first that the program itself would refuse. */
export function judgeSettings(settings: Settings, stack: string): Verdict[] {
  const set = (key: string) =>
    SECRET.has(key)
      ? `pulumi config set --secret ${key} --stack ${stack}`
      : `pulumi config set ${key} VALUE --stack ${stack}`;
  const found = [
    ...REQUIRED.filter((key) => !settings.has(key)).map((key) => wrong(`${key} is not set`, set(key))),
    ...[...SECRET]
      .filter((key) => settings.get(key)?.secret === false)
      .map((key) => wrong(`${key} is kept in the clear in the stack's file`, set(key))),
  ];
  if (found.length > 0) return found;
  if ([...settings].some(([key, { value }]) => value === undefined && !SECRET.has(key))) {
    return [skipped('some could not be read, as they are secret')];
  }
  const mistake = mistakeIn(settings);
  if (mistake === undefined) return [ok(`${settings.size} set`)];
  const key = /^[^:]+:(\w+)/.exec(mistake)?.[1] ?? 'KEY';
  return [wrong(mistake.replace(/^[^:]+:/, ''), set(key))];
}

/** Secrets of the program are not looked into: any text will do. */
function mistakeIn(settings: Settings): string | undefined {
  const values = [...settings].map(([key, { value }]) => [`project:${key}`, value ?? 'unread']);
  const secrets = [...settings].filter(([, { secret }]) => secret).map(([key]) => `project:${key}`);
  pulumiSdk.runtime.setAllConfig(Object.fromEntries(values), secrets);
  try {
    readStackConfig(new pulumiSdk.Config('project'));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
