import { describe, expect, test } from 'vitest';
import { type ReapRequest, reap } from '../../infra/preview/reap.ts';

const NOW = new Date('2026-11-25T12:00:00Z');
const OLD = NOW.getTime() - 24 * 3_600_000;

/** Pulumi and Fly as the reaper sees them, without previews: apps of ours that may be nobody's. What is done to them is noted. */
function world({ apps = {} as Record<string, number | undefined>, stacks = ['prod'], breaks = '' }) {
  const removed: string[] = [];
  const asked: string[] = [];
  const request: ReapRequest = {
    project: {
      stackNames: async () => {
        asked.push('stacks');
        return stacks;
      },
      previews: async () => [],
    } as unknown as ReapRequest['project'],
    apps: {
      list: async () => {
        asked.push('apps');
        const left = Object.keys(apps).filter((app) => !removed.includes(app));
        return left.map((app) => ({ app, stack: app.split('-').slice(1, 3).join('-') }));
      },
      youngest: async (app) => apps[app],
      remove: async (app) => {
        if (app === breaks) throw new Error(`${app} stays`);
        removed.push(app);
      },
    },
    now: NOW,
    reporting: { progress: () => {}, signal: new AbortController().signal },
    dryRun: false,
    orphans: true,
    witness: 'prod',
    leastAgeMs: 3_600_000,
    looksApartMs: 0,
  };
  return { removed, asked, request };
}

describe('apps that no stack owns', () => {
  const apps = { 'm-pr-1-ctl': OLD, 'm-pr-1-cell-1': undefined, 'm-pr-2-ctl': OLD };

  test('are deleted after two looks, in each of which the stacks are asked for last', async () => {
    const { removed, asked, request } = world({ apps, stacks: ['prod', 'pr-2'] });
    expect(await reap(request)).toMatchObject({ orphans: ['m-pr-1-ctl', 'm-pr-1-cell-1'], problems: [] });
    expect(removed).toEqual(['m-pr-1-ctl', 'm-pr-1-cell-1']);
    expect(asked).toEqual(['apps', 'stacks', 'apps', 'stacks']);
  });

  test('are only told of without --orphans', async () => {
    const { removed, request } = world({ apps });
    const result = await reap({ ...request, orphans: false });
    expect(result.kept.map(({ app }) => app).sort()).toEqual(Object.keys(apps).sort());
    expect(removed).toEqual([]);
  });

  test('are only named by a dry run', async () => {
    const { removed, request } = world({ apps });
    expect((await reap({ ...request, dryRun: true, orphans: false })).orphans).toHaveLength(3);
    expect(removed).toEqual([]);
  });

  test('are kept while they are young', async () => {
    const { removed, request } = world({ apps: { 'm-pr-1-ctl': NOW.getTime() - 1, 'm-pr-1-cell-1': OLD } });
    const result = await reap(request);
    expect(result.kept.map(({ why }) => why)).toEqual(['too young', 'too young']);
    expect(removed).toEqual([]);
  });

  test('are kept, and told of, while nothing shows their age', async () => {
    const { removed, request } = world({ apps: { 'm-pr-1-img': undefined } });
    const { problems } = await reap(request);
    expect(problems).toMatchObject([{ what: 'apps of pr-1' }]);
    expect(problems[0]!.why).toContain('m-pr-1-img');
    expect(removed).toEqual([]);
    expect((await reap({ ...request, leastAgeMs: 0 })).orphans).toEqual(['m-pr-1-img']);
  });

  test('are all kept where the backend does not hold the witness', async () => {
    const { removed, request } = world({ apps, stacks: [] });
    const result = await reap(request);
    expect(result.problems).toMatchObject([{ what: 'apps without a stack' }]);
    expect(result.problems[0]!.why).toContain('no stack "prod"');
    expect(removed).toEqual([]);
  });

  test('one that can’t be deleted does not keep those of another preview', async () => {
    const { removed, request } = world({ apps, breaks: 'm-pr-1-ctl' });
    const result = await reap(request);
    expect(result).toMatchObject({
      orphans: ['m-pr-2-ctl'],
      problems: [{ what: 'apps of pr-1', why: 'm-pr-1-ctl stays' }],
    });
    expect(removed).toEqual(['m-pr-2-ctl']);
  });
});
