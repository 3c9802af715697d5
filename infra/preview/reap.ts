import { setTimeout as pause } from 'node:timers/promises';
import type { PreviewApps } from './apps.ts';
import { destroy } from './destroy.ts';
import { lifeOf } from './expiry.ts';
import { inOrderOfDeletion } from './names.ts';
import { keepsOrphans, type Look, orphansIn } from './orphans.ts';
import type { Project } from './project.ts';
import type { Reporting } from './stack.ts';

export interface ReapRequest {
  project: Project;
  apps: PreviewApps;
  now: Date;
  reporting: Reporting;
  /** Change nothing, say what would be. */
  dryRun: boolean;
  /** Delete the apps that no stack owns; without, they are reported. */
  orphans: boolean;
  /** A stack that the right backend holds: with another backend, every preview would look like an orphan. */
  witness: string;
  leastAgeMs: number;
  looksApartMs: number;
}

export interface ReapResult {
  /** Past their time: destroyed, or to be destroyed. */
  expired: string[];
  /** Apps of no stack: deleted, or to be deleted. */
  orphans: string[];
  kept: { app: string; why: string }[];
  /** What a person has to look at; not empty means exit code 1. */
  problems: { what: string; why: string }[];
}

/** Destroys previews that are past their time, one after the other, and then looks for apps of previews that are no more. */
export async function reap(request: ReapRequest): Promise<ReapResult> {
  const result: ReapResult = { expired: [], orphans: [], kept: [], problems: [] };
  await reapExpired(request, result);
  await reapOrphans(request, result);
  return result;
}

async function reapExpired(request: ReapRequest, result: ReapResult): Promise<void> {
  const { project, apps, now, reporting, dryRun } = request;
  for (const { stack, tags } of await project.previews()) {
    const life = lifeOf(tags.expiresAt, now);
    if (life === 'unreadable') {
      const why = `its expiry is ${tags.expiresAt === undefined ? 'not noted' : `"${tags.expiresAt}"`}; kept. To destroy it: npm run preview -- destroy --stack ${stack}`;
      result.problems.push({ what: stack, why });
    }
    if (life !== 'expired') continue;
    await attempt(stack, result, async () => {
      // The one before it may have taken minutes, in which an `up` has renewed this one.
      if (lifeOf((await project.tags(stack)).expiresAt, now) !== 'expired') return;
      if (!dryRun) await destroy({ project, stack, apps, cancel: false, reporting });
      result.expired.push(stack);
    });
  }
}

async function reapOrphans(request: ReapRequest, result: ReapResult): Promise<void> {
  const { apps, now, dryRun, leastAgeMs, looksApartMs, reporting } = request;
  let orphans = new Map<string, string[]>();
  await attempt('apps without a stack', result, async () => {
    const first = await look(request);
    if (orphansIn([first]).size === 0) return;
    await pause(looksApartMs, undefined, { signal: reporting.signal });
    const second = await look(request);
    orphans = orphansIn([first, second]);
    const known = second.stacks.includes(request.witness);
    if (orphans.size > 0 && request.orphans && !known) {
      orphans = new Map();
      throw new Error(
        `the state backend holds no stack "${request.witness}", so it may be the wrong one: no app is deleted (--witness names another stack that must be there)`,
      );
    }
  });
  for (const [stack, names] of orphans) {
    await attempt(`apps of ${stack}`, result, async () => {
      const why = keepsOrphans(await Promise.all(names.map(apps.youngest)), leastAgeMs, now);
      if (why === 'no date') {
        throw new Error(
          `${names.join(', ')}: of no stack, and without a machine that would show their age; kept. When nobody is making them: --orphans --min-age-hours 0`,
        );
      }
      for (const app of inOrderOfDeletion(names)) {
        if (why !== undefined) result.kept.push({ app, why });
        else if (!request.orphans && !dryRun) result.kept.push({ app, why: 'only deleted with --orphans' });
        else {
          if (!dryRun) await apps.remove(app);
          result.orphans.push(app);
        }
      }
    });
  }
}

async function look({ apps, project }: ReapRequest): Promise<Look> {
  const seen = await apps.list();
  return { apps: seen, stacks: await project.stackNames() };
}

/** One that fails is noted, and the rest goes on. */
async function attempt(what: string, result: ReapResult, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    result.problems.push({ what, why: (error as Error).message });
  }
}
