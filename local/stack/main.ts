/** `npm start`, `mobvibe up`: the whole product on this computer, until Ctrl-C. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { startStack } from './stack.ts';
import { localConfigFile, localStateDir } from './state-dir.ts';

const HELP = `Starts local Supabase, local Fly and the controller, and keeps them running.

  npm start -- [--port 8080] [--state-dir DIR] [--verbose]

  --port       port of the controller's API on 127.0.0.1 (default 8080; 0 takes a free one)
  --state-dir  where everything is kept between starts (default: MOBVIBE_LOCAL_STATE_DIR, or a folder of the user)
  --verbose    print every part's log
`;

const options = readOptions();
const stateDir = options.stateDir ?? localStateDir(process.env, process.getuid?.());
const configFile = localConfigFile(process.env);
const began = performance.now();

const stack = await startStack({
  stateDir,
  port: options.port,
  onLog: (part, line) => {
    if (options.verbose) process.stderr.write(`[${part}] ${line}\n`);
  },
  onStep: (part, ms) => process.stdout.write(`${part.padEnd(16)} up in ${ms.toFixed(0)} ms\n`),
}).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});

await mkdir(dirname(configFile), { recursive: true });
// A file of an older start may have other rights; a new one is made with ours.
await rm(configFile, { force: true });
await writeFile(configFile, `${JSON.stringify({ url: stack.url, apiKey: stack.apiKey })}\n`, { mode: 0o600 });

for (const lack of stack.engine.lacks) process.stdout.write(`note: ${lack}\n`);
process.stdout.write(`
Running at ${stack.url}, up in ${((performance.now() - began) / 1000).toFixed(1)} s. Everything is kept in ${stateDir}
This is a stand-in for Fly.io and Supabase on this computer: no account, no bill.

Try, in another terminal of this folder:

  npx mobvibe session create --id hello
  npx mobvibe exec hello -- node --version
  npx mobvibe files put examples/trail-notes hello:
  npx mobvibe job run hello -- node --test
  npx mobvibe session stop hello

Ctrl-C stops it; saved files stay.
`);

let stopping = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(130);
    void stopAndExit(0);
  });
}
for (const name of ['supabase', 'fly', 'controller'] as const) {
  const part = stack[name];
  void part.exited.then(({ code, signal }) => {
    if (stopping) return;
    process.stderr.write(
      `${part.name} ended by itself (${signal ?? `exit code ${code}`}):\n  ${part.lastLog().join('\n  ')}\n`,
    );
    void stopAndExit(1);
  });
}

async function stopAndExit(code: number): Promise<void> {
  stopping = true;
  process.stdout.write('stopping …\n');
  await rm(configFile, { force: true });
  await stack.stop();
  process.exit(code);
}

function readOptions(): { port: number; stateDir: string | undefined; verbose: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: 'string', default: '8080' },
        'state-dir': { type: 'string' },
        verbose: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const port = Number(values.port);
    if (!Number.isInteger(port) || port < 0 || port > 65_535) {
      throw new Error(`--port must be a number from 0 to 65535, got ${JSON.stringify(values.port)}`);
    }
    return { port, stateDir: values['state-dir'], verbose: values.verbose };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}
