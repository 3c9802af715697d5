import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { missing, type PulumiRun, type Stack, startWorld, type World } from './engine.ts';

const reason = missing('command');
const PACK = fileURLToPath(new URL('../../infra/policy', import.meta.url));
const VIOLATING = 'test/pulumi/violating';
const MINUTES = 60_000;

/** The names of the policies that a run was refused for. */
function refusedFor({ output }: PulumiRun): string[] {
  const names = [...output.matchAll(/^\s*- \[mandatory\]\s+([\w-]+)/gm)].map(([, name]) => name!);
  return [...new Set(names)].sort();
}

/** The real engine runs the real policies; nothing of a stack that breaks one gets to Fly. */
describe.skipIf(reason !== undefined)(
  `policies${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 3 * MINUTES },
  () => {
    const worlds: World[] = [];
    const world = async (program?: string) => {
      const started = await startWorld(program === undefined ? {} : { program });
      worlds.push(started);
      return started;
    };
    const checked = (stack: Stack, ...args: string[]) =>
      stack.run(args[0] ?? 'preview', ...args.slice(1), '--policy-pack', PACK);
    afterAll(() => Promise.all(worlds.map((one) => one.close())));

    describe('the program itself', () => {
      let here: World;
      let stack: Stack;
      beforeAll(async () => {
        here = await world();
        stack = await here.stack('prod', { protect: 'true' });
      }, 2 * MINUTES);

      test('as it is set up, passes: before anything is there, and when it is made', async () => {
        const preview = await checked(stack);
        expect(preview.code, preview.output).toBe(0);
        expect(preview.output).toMatch(/mobvibe@v1\.0\.0/);
        // Nothing that the rules look at is hidden from them in a preview.
        expect(preview.output).not.toMatch(/can't run policy/);
        const up = await checked(stack, 'up', '--yes', '--skip-preview');
        expect(up.code, up.output).toBe(0);
        expect(refusedFor(up)).toEqual([]);
      });

      test('not without protection, not with sandboxes of any size, and nothing is written', async () => {
        await stack.set('protect', 'false');
        await stack.set('sandboxMemoryMb', '32768');
        const before = here.recorder.writes.length;
        const up = await checked(stack, 'up', '--yes');
        expect(up.code).not.toBe(0);
        expect(refusedFor(up)).toEqual(['machine-size', 'production-protected']);
        expect(up.output).toContain('mobvibe-prod-cell-1 of the production stack prod is not protected');
        expect(up.output).toContain('config.env.MOBVIBE_MEMORY_MB is 32768, above the limit of 4096');
        expect(here.recorder.writes.slice(before)).toEqual([]);
      });

      test('a file of settings moves the limits', async () => {
        const file = join(here.folder, 'policies.json');
        await writeFile(
          file,
          JSON.stringify({
            'machine-size': { maxMemoryMb: 32_768 },
            'production-protected': { stacks: ['live'] },
          }),
        );
        const preview = await checked(stack, 'preview', '--policy-pack-config', file);
        expect(preview.code, preview.output).toBe(0);
      });
    });

    test('a program that breaks them is refused for each, and nothing is written', async () => {
      const here = await world(VIOLATING);
      const stack = await here.stack('pr-7');
      for (const command of [['preview'], ['up', '--yes']]) {
        const run = await checked(stack, ...command);
        expect(run.code).not.toBe(0);
        expect(refusedFor(run), run.output).toEqual([
          'cell-address',
          'cell-closed',
          'cell-ingress',
          'cell-network',
          'image-by-digest',
          'machine-size',
          'sandbox-ends',
        ]);
      }
      expect(here.recorder.writes).toEqual([]);
      expect(here.said.join('\n')).not.toContain('canary-of-the-policies');
    });
  },
);
