/**
 * The user's side in a process of its own, as an agent has it, driven by lines: `run COMMAND`, `freeze`, `thaw`, `end GRACE_MS`, `count`. Says one
 * line of JSON for each, and one for each command that has ended.
 */
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseExecSpec } from '../../../image/agent/exec/spec.ts';
import { takeSettings } from '../../../image/agent/settings.ts';
import { openUserSide } from '../../../image/agent/user/open.ts';

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
const settings = takeSettings(process.env);
mkdirSync(settings.stateDir, { recursive: true });
const { side, processes } = await openUserSide(settings, process.env, Date.now);
let thaw = async () => {};

const operations: Record<string, (argument: string) => unknown> = {
  run: async (command) => {
    const { child, stdout, stderr } = await side.spawn(parseExecSpec({ command }));
    for (const stream of [stdout, stderr]) stream.resume();
    child.once('exit', (code, signal) => say({ ended: { code, signal } }));
    return child.pid;
  },
  freeze: async () => {
    thaw = await processes.freeze();
  },
  thaw: () => thaw(),
  end: (graceMs) => processes.end(Number(graceMs)),
  count: () => processes.count(),
};

say('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const [operation, ...rest] = line.split(' ');
  try {
    say({ done: await operations[operation!]!(rest.join(' ')) });
  } catch (error) {
    say({ failed: String(error) });
  }
}
await side.close();
process.exit();
