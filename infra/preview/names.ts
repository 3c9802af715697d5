import { createHash } from 'node:crypto';

/** The controller takes the stack's name as `MOBVIBE_STACK`, which has at most 31 characters; Fly's app names leave room for more. */
const MOST = 31;
const HASH = 6;
const PREVIEW = /^(?:pr-[1-9][0-9]*|br-[a-z0-9]+(?:-[a-z0-9]+)*)$/;
/** What `infra/` calls its apps: the parts that `physicalName` is given. */
const PARTS = 'ctl|egress|cell-[1-9][0-9]*|img';

/** What a preview is of: a pull request or a branch. */
export type Source = { pr: number } | { branch: string };

/** As it stands in the stack's tag: `pr 7`, `branch feature/x`. */
export const describeSource = (source: Source): string =>
  'pr' in source ? `pr ${source.pr}` : `branch ${source.branch}`;

/**
 * The stack of a preview: `pr-7`, `br-feature-x`. A branch whose name loses more than its slashes, or is too long, gets the start of its
 * hash, so that two of them don't become one. What is left (`feature/x` and `feature-x`) is told apart by the stack's tag.
 */
export function stackOf(source: Source): string {
  if ('pr' in source) {
    if (!Number.isSafeInteger(source.pr) || source.pr < 1) {
      throw new Error(`--pr is "${source.pr}": the number of a pull request`);
    }
    return `pr-${source.pr}`;
  }
  const { branch } = source;
  if (branch === '') throw new Error('--branch is "": the name of a branch');
  const dashed = branch.replaceAll('/', '-');
  if (PREVIEW.test(`br-${dashed}`) && dashed.length <= MOST - 3) return `br-${dashed}`;
  const hash = createHash('sha256').update(branch).digest('hex').slice(0, HASH);
  const words = dashed
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, MOST - 3 - 1 - HASH)
    .replace(/^-+|-+$/g, '');
  return words === '' ? `br-${hash}` : `br-${words}-${hash}`;
}

/** Whether a stack is a preview by its name: nothing else is ever destroyed by the reaper. */
export const isPreview = (stack: string): boolean => stack.length <= MOST && PREVIEW.test(stack);

/** The preview that a Fly app belongs to by its name, or undefined: production's, somebody else's, none that `infra/` makes. */
export function previewOfApp(project: string, app: string): string | undefined {
  if (!app.startsWith(`${project}-`)) return undefined;
  const [, stack] = new RegExp(`^(.+)-(?:${PARTS})$`).exec(app.slice(project.length + 1)) ?? [];
  return stack !== undefined && isPreview(stack) ? stack : undefined;
}

/** The controller before what it would go on filling. */
export function inOrderOfDeletion(apps: readonly string[]): string[] {
  return apps.toSorted((a, b) => Number(b.endsWith('-ctl')) - Number(a.endsWith('-ctl')) || (a < b ? -1 : 1));
}
