import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MobVibe } from '../../client/index.ts';
import { removeState, type Stack, type StackOptions, startStack } from '../../local/stack/stack.ts';

export interface TestStack extends AsyncDisposable {
  stack: Stack;
  mobvibe: MobVibe;
  stateDir: string;
  /** The log lines of a part until now. */
  log(part: string): string[];
}

/** The whole product in a folder of its own: real Postgres, real machines, real HTTP. */
export async function localStack(options: Pick<StackOptions, 'controllerEnv'> = {}): Promise<TestStack> {
  const stateDir = await mkdtemp(join(tmpdir(), 'mobvibe-e2e-'));
  await chmod(stateDir, 0o711);
  const logs = new Map<string, string[]>();
  const stack = await startStack({
    ...options,
    stateDir,
    onLog: (part, line) => logs.set(part, [...(logs.get(part) ?? []), line]),
  });
  return {
    stack,
    stateDir,
    mobvibe: new MobVibe({ url: stack.url, apiKey: stack.apiKey }),
    log: (part) => logs.get(part) ?? [],
    async [Symbol.asyncDispose]() {
      await stack.stop();
      await removeState(stateDir);
    },
  };
}

/** Polls until the condition holds; the test's own time limit ends a wait that never does. */
export async function until<T>(probe: () => Promise<T | undefined | false>): Promise<T> {
  while (true) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
