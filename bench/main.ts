/** `npm run bench -- NAME … [--json]`: measures against the raw thing, both in one run. Everything runs on loopback and ends. */
import { chmod, mkdtemp } from 'node:fs/promises';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MobVibe } from '../client/index.ts';
import { removeState, startStack } from '../local/stack/stack.ts';
import type { Bench } from './bench.ts';
import { benchExec } from './exec.ts';
import { type Figure, table } from './figures.ts';
import { benchStart } from './start.ts';
import { benchTunnel } from './tunnel.ts';

const BENCHES: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  exec: benchExec,
  start: benchStart,
  tunnel: benchTunnel,
};

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
for (const name of names) {
  if (!(name in BENCHES)) {
    process.stderr.write(
      `there is no bench ${JSON.stringify(name)}; there are: ${Object.keys(BENCHES).join(', ')}\n`,
    );
    process.exit(2);
  }
}

const stateDir = await mkdtemp(join(tmpdir(), 'mobvibe-bench-'));
await chmod(stateDir, 0o711);
const stack = await startStack({ stateDir });
try {
  const mobvibe = new MobVibe({ url: stack.url, apiKey: stack.apiKey });
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  if (!values.json) {
    say(`${availableParallelism()} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}`);
  }
  for (const name of names) {
    const figures = await BENCHES[name]!({ mobvibe, stack, say });
    if (values.json) {
      for (const figure of figures) process.stdout.write(`${JSON.stringify({ bench: name, ...figure })}\n`);
    } else {
      process.stdout.write(`\n${name}\n${table(figures)}\n`);
    }
  }
} finally {
  await stack.stop();
  await removeState(stateDir);
}
