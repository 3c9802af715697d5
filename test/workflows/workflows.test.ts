import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

interface Step {
  run?: string;
  uses?: string;
  shell?: string;
  if?: string;
  env?: Record<string, string>;
}
interface Job {
  steps: Step[];
  environment?: string;
  permissions?: Record<string, string>;
  'timeout-minutes'?: number;
}
interface Workflow {
  on: Record<string, { types?: string[] } | null>;
  permissions: Record<string, string>;
  defaults: { run: { shell: string } };
  jobs: Record<string, Job>;
}

const FOLDER = '.github/workflows/';
const files = readdirSync(FOLDER).sort();
const text = (file: string) => readFileSync(FOLDER + file, 'utf8');
const workflows = files.map((file) => [file, parse(text(file)) as Workflow] as const);
const prepare = parse(readFileSync('.github/actions/prepare/action.yml', 'utf8')) as {
  runs: { steps: Step[] };
};
const docs = readFileSync('docs/previews.md', 'utf8');
const scripts = Object.keys(JSON.parse(readFileSync('package.json', 'utf8')).scripts);
const stepsOf = (workflow: Workflow) => Object.values(workflow.jobs).flatMap((job) => job.steps);
const allSteps = [...workflows.flatMap(([, workflow]) => stepsOf(workflow)), ...prepare.runs.steps];

test('there are workflows', () => {
  expect(files).toEqual(['check.yml', 'nightly.yml', 'preview.yml', 'production.yml']);
  expect(allSteps.filter(({ run }) => run !== undefined).length).toBeGreaterThan(8);
});

describe.each(workflows)('%s', (file, workflow) => {
  test('may read the code and no more, but for what a job asks for; every job ends some time', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(workflow.defaults.run.shell).toBe('bash');
    for (const [name, job] of Object.entries(workflow.jobs)) {
      expect(job['timeout-minutes'], name).toBeGreaterThan(0);
      const asked = Object.entries(job.permissions ?? {}).filter(([, right]) => right === 'write');
      expect(asked).toEqual(file === 'preview.yml' ? [['pull-requests', 'write']] : []);
    }
  });

  test('its secrets come from an environment, by name, and never stand in a script', () => {
    for (const job of Object.values(workflow.jobs)) {
      const named = JSON.stringify(job).match(/secrets\.\w+/g) ?? [];
      if (named.length > 0) expect(job.environment).toMatch(/^(preview|production|production-plan)$/);
    }
    for (const { run = '' } of stepsOf(workflow)) expect(run).not.toContain('${{');
  });

  test('code of a fork is never run with secrets', () => {
    expect(Object.keys(workflow.on)).not.toContain('pull_request_target');
    if (!('pull_request' in workflow.on)) return;
    for (const job of Object.values(workflow.jobs)) {
      if (job.environment === undefined) continue;
      expect((job as Step).if).toContain(
        'github.event.pull_request.head.repo.full_name == github.repository',
      );
    }
  });
});

test('actions are named by major version, or by a whole commit', () => {
  for (const { uses } of allSteps) {
    if (uses === undefined || uses === './.github/actions/prepare') continue;
    expect(uses).toMatch(/^[\w-]+\/[\w-]+@(v\d+|[0-9a-f]{40})$/);
  }
});

describe('every script', () => {
  const runs = allSteps.flatMap(({ run }) => (run === undefined ? [] : [run]));

  test.each(runs)('%s is one that bash takes', (run) => {
    execFileSync('bash', ['-n'], { input: run });
  });

  test('calls npm scripts, files and commands of ours that exist', () => {
    const called = runs.flatMap((run) =>
      [...run.matchAll(/npm (?:run (?:--silent )?)(\S+)/g)].map(([, name]) => name!),
    );
    expect(new Set(called)).toEqual(new Set(['check', 'preview']));
    for (const name of called) expect(scripts).toContain(name);
    for (const [, file] of runs.join('\n').matchAll(/(\.github\/\S+\.sh)/g)) readFileSync(file!);
    const help = execFileSync(process.execPath, ['infra/preview/main.ts', '--help'], { encoding: 'utf8' });
    for (const [, command] of runs.join('\n').matchAll(/preview -- (\w+)/g))
      expect(help).toContain(`  ${command} `);
  });
});

describe('docs/previews.md', () => {
  const all = [...files.map(text), readFileSync('.github/actions/prepare/action.yml', 'utf8')].join('\n');
  const used = new Set([...all.matchAll(/\b(?:secrets|vars)\.(\w+)/g)].map(([, name]) => name!));

  test('tells of every secret and variable that a workflow names, and of no other', () => {
    const [, table = ''] = /### Secrets and variables\n([\s\S]*?)\n(?=#|$)/.exec(docs) ?? [];
    const told = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name!);
    expect(told.sort()).toEqual([...used].sort());
    expect(used.size).toBeGreaterThan(5);
  });

  test('tells of every environment', () => {
    for (const [, environment] of all.matchAll(/environment: (\S+)/g))
      expect(docs).toContain(`\`${environment}\``);
  });
});
