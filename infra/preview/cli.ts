import { Command, InvalidArgumentError } from 'commander';
import { type PreviewApps, previewApps } from './apps.ts';
import { destroy } from './destroy.ts';
import { roughly } from './expiry.ts';
import { isPreview, type Source, stackOf } from './names.ts';
import { openProject, type PreviewStack, type Project } from './project.ts';
import { type ReapResult, reap } from './reap.ts';
import { plainSettings, requireVariables } from './settings.ts';
import type { Reporting } from './stack.ts';
import { up } from './up.ts';

const HOUR_MS = 3_600_000;

export interface Terminal {
  /** Answers: text for people, or one line of JSON. */
  out: (text: string) => void;
  /** Progress and mistakes. */
  say: (text: string) => void;
  env: Record<string, string | undefined>;
  now: () => Date;
  signal: AbortSignal;
}

interface Common {
  project: string;
  json?: true;
  set: string[];
}
interface Which extends Common {
  pr?: number;
  branch?: string;
}

const number = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('a number');
  return Number(text);
};
const collect = (value: string, before: string[]): string[] => [...before, value];

/** Runs one command line and says with which code to exit. */
export async function runPreview(args: string[], root: string, terminal: Terminal): Promise<number> {
  const { env, now } = terminal;
  const reporting: Reporting = { progress: terminal.say, signal: terminal.signal };
  let exitCode = 0;
  const answer = (json: true | undefined, value: unknown, text: string) =>
    terminal.out(json ? JSON.stringify(value) : text);
  const program = new Command('preview').description(
    'Environments of their own for branches and pull requests',
  );

  const add = (name: string, description: string) =>
    program
      .command(name)
      .description(description)
      .option('--json', 'answer as one line of JSON')
      .option('--set <key=value>', 'a setting instead of the template’s; may be repeated', collect, [])
      .option('--project <folder>', 'where Pulumi.yaml is', root);
  const which = (command: Command) =>
    command.option('--pr <number>', 'of a pull request', number).option('--branch <name>', 'of a branch');

  which(add('up', 'make a preview, or bring it up to date and renew its life'))
    .option('--ttl-hours <hours>', 'how long until it may be reaped', number, 48)
    .action(async (options: Which & { ttlHours: number }) => {
      const project = await openProject(options.project);
      const { ttlHours, set } = options;
      const made = await up({
        project,
        source: sourceOf(options),
        ttlHours,
        set,
        env,
        now: now(),
        reporting,
      });
      answer(options.json, made, `${made.stack}: ${made.url} until ${made.expiresAt}`);
    });

  which(add('destroy', 'take a preview away; safe to repeat'))
    .option('--stack <name>', 'by the name that list shows')
    .option('--force', 'break the lock of an update that was cut off; only when none is running')
    .action(async (options: Which & { stack?: string; force?: true }) => {
      const stack = options.stack ?? stackOf(sourceOf(options));
      if (!isPreview(stack))
        throw new Error(`"${stack}" is no preview: pr-… and br-… alone are destroyed here`);
      const project = await openProject(options.project);
      const apps = await appsOf(project, options, env);
      const done = await destroy({ project, stack, apps, cancel: options.force === true, reporting });
      const swept =
        done.swept.length > 0 ? `, and ${done.swept.join(', ')}, which its state did not know` : '';
      answer(options.json, done, done.destroyed ? `${stack}: destroyed${swept}` : `${stack}: not there`);
    });

  add('list', 'all previews in the state backend').action(async (options: Common) => {
    const previews = await (await openProject(options.project)).previews();
    answer(
      options.json,
      previews,
      previews.map((preview) => line(preview, now())).join('\n') || 'no previews',
    );
  });

  add('reap', 'destroy previews that are past their time, and look for apps that no stack owns')
    .option('--dry-run', 'change nothing, say what would be')
    .option('--orphans', 'delete the apps of previews that no stack owns, too')
    .option(
      '--witness <stack>',
      'a stack that the state backend must hold before an orphan is deleted',
      'prod',
    )
    .option('--min-age-hours <hours>', 'younger orphans are kept', number, 1)
    .option(
      '--looks-apart-seconds <seconds>',
      'between the two looks that an orphan must be seen in',
      number,
      30,
    )
    .action(
      async (
        options: Common & {
          dryRun?: true;
          orphans?: true;
          witness: string;
          minAgeHours: number;
          looksApartSeconds: number;
        },
      ) => {
        const project = await openProject(options.project);
        const result = await reap({
          project,
          apps: await appsOf(project, options, env),
          now: now(),
          reporting,
          dryRun: options.dryRun === true,
          orphans: options.orphans === true,
          witness: options.witness,
          leastAgeMs: options.minAgeHours * HOUR_MS,
          looksApartMs: options.looksApartSeconds * 1000,
        });
        if (result.problems.length > 0) exitCode = 1;
        answer(options.json, result, reaped(result, options.dryRun === true));
      },
    );

  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ writeOut: terminal.out, writeErr: terminal.say });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    // Of commander: said already; help is no mistake.
    if (error instanceof Error && 'exitCode' in error) return error.exitCode === 0 ? 0 : 2;
    terminal.say(`${(error as Error).message}\n`);
    return 1;
  }
}

function sourceOf({ pr, branch }: Which): Source {
  if (pr !== undefined && branch === undefined) return { pr };
  if (branch !== undefined && pr === undefined) return { branch };
  throw new Error('one of --pr and --branch says which preview');
}

async function appsOf(project: Project, { set }: Common, env: Terminal['env']): Promise<PreviewApps> {
  requireVariables(env, ['FLY_API_TOKEN']);
  return previewApps(project.name, plainSettings(project.name, await project.template(), env, set));
}

function line({ stack, tags, lastUpdate, resources, updating }: PreviewStack, now: Date): string {
  const left = Date.parse(tags.expiresAt ?? '') - now.getTime();
  const life = Number.isNaN(left)
    ? 'expiry unknown'
    : left > 0
      ? `expires in ${roughly(left)}`
      : `expired ${roughly(-left)} ago`;
  const since =
    lastUpdate === undefined
      ? 'never updated'
      : `updated ${roughly(now.getTime() - Date.parse(lastUpdate))} ago`;
  const parts = [
    stack,
    tags.source ?? '?',
    since,
    life,
    `${resources ?? '?'} resources`,
    tags.url ?? 'no URL',
  ];
  return [...parts, ...(updating ? ['being updated'] : [])].join('  ');
}

function reaped({ expired, orphans, kept, problems }: ReapResult, dryRun: boolean): string {
  const lines = [
    ...expired.map((stack) => `${stack}: ${dryRun ? 'would be destroyed' : 'destroyed'}`),
    ...orphans.map((app) => `${app}: of no stack; ${dryRun ? 'would be deleted' : 'deleted'}`),
    ...kept.map(({ app, why }) => `${app}: of no stack; kept: ${why}`),
    ...problems.map(({ what, why }) => `${what}: ${why}`),
  ];
  return lines.join('\n') || 'nothing to reap';
}
