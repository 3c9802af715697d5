/** `npm start`, `mobvibe up`: the whole product on this computer, until Ctrl-C. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { saveAndStopSessions } from './leave.ts';
import { assertPortIsFree } from './port.ts';
import { Presses } from './presses.ts';
import { type Stack, startStack } from './stack.ts';
import { localConfigFile, localStateDir } from './state-dir.ts';

const HELP = `Starts local Supabase, local Fly and the controller, and keeps them running.

  npm start -- [--port 8080] [--state-dir DIR] [--verbose] [--json]

  --port       port of the controller's API on 127.0.0.1 (default 8080; 0 takes a free one)
  --state-dir  where everything is kept between starts (default: MOBVIBE_LOCAL_STATE_DIR, or a folder of the user)
  --verbose    print every part's log, on stderr
  --json       print one line of JSON when all is up, instead of text
`;

const options = readOptions();
const stateDir = options.stateDir ?? localStateDir(process.env, process.getuid?.());
const configFile = localConfigFile(process.env);
const began = performance.now();
/** For people; with `--json` stdout holds nothing else. */
const tell = (text: string) => void (options.json || process.stdout.write(text));

const stack = await start().catch((error: Error) => {
  complain('start_failed', error.message);
  process.exit(1);
});
const settings = `${JSON.stringify({ url: stack.url, apiKey: stack.apiKey })}\n`;
await mkdir(dirname(configFile), { recursive: true });
// A file of an older start may have other rights; a new one is made with ours.
await rm(configFile, { force: true });
await writeFile(configFile, settings, { mode: 0o600 });

const upMs = Math.round(performance.now() - began);
const { name: engine, lacks } = stack.engine;
if (options.json) {
  const up = { url: stack.url, config_file: configFile, state_dir: stateDir, engine, lacks, up_ms: upMs };
  process.stdout.write(`${JSON.stringify(up)}\n`);
}
for (const lack of lacks) tell(`note: ${lack}\n`);
tell(`
Running at ${stack.url}, up in ${(upMs / 1000).toFixed(1)} s. Everything is kept in ${stateDir}
This is a stand-in for Fly.io and Supabase on this computer: no account, no bill.

Try, in another terminal of this folder:

  npx mobvibe session create --id hello
  npx mobvibe exec hello -- node --version
  npx mobvibe files put examples/trail-notes hello:
  npx mobvibe job run hello -- node --test
  npx mobvibe session stop hello

Ctrl-C stops it; the files of open sessions are saved before.
`);

let stopping = false;
/** Raised by the second Ctrl-C: the parts are stopped at once. A third does not wait for them, either. */
const hurry = new AbortController();
const presses = new Presses();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    const press = presses.add(performance.now());
    if (press === 0) return;
    // One that died by itself takes the rest along without being asked.
    if (hurry.signal.aborted || (press === 1 && stopping)) process.exit(130);
    if (press === 1) void saveAndExit();
    else hurry.abort();
  });
}
for (const name of ['supabase', 'egress', 'fly', 'controller'] as const) {
  const part = stack[name];
  void part.exited.then(({ code, signal }) => {
    if (stopping) return;
    const log = part.lastLog().join('\n  ');
    complain('part_ended', `${part.name} ended by itself (${signal ?? `exit code ${code}`}):\n  ${log}`);
    void stopAndExit(1);
  });
}

async function start(): Promise<Stack> {
  await assertPortIsFree(options.port);
  return startStack({
    stateDir,
    port: options.port,
    onLog: (part, line) => {
      if (options.verbose) process.stderr.write(`[${part}] ${line}\n`);
    },
    onStep: (part, ms) => tell(`${part.padEnd(16)} up in ${ms.toFixed(0)} ms\n`),
  });
}

async function saveAndExit(): Promise<void> {
  stopping = true;
  const { url, apiKey } = stack;
  const tellLine = (line: string) => tell(`${line}\n`);
  const lost = await saveAndStopSessions({ url, apiKey, tell: tellLine, hurry: hurry.signal });
  if (lost !== null) complain('not_saved', lost);
  // From here on nobody waits for a save: one more Ctrl-C is the last.
  const code = hurry.signal.aborted ? 130 : lost === null ? 0 : 1;
  hurry.abort();
  await stopAndExit(code);
}

async function stopAndExit(code: number): Promise<void> {
  stopping = true;
  tell('stopping …\n');
  // Another stack, with another folder and port, may have taken the file over: then it is that one's.
  if ((await readFile(configFile, 'utf8').catch(() => '')) === settings)
    await rm(configFile, { force: true });
  await stack.stop();
  process.exit(code);
}

function complain(code: string, detail: string): void {
  process.stderr.write(options.json ? `${JSON.stringify({ error: { code, detail } })}\n` : `${detail}\n`);
}

interface Options {
  port: number;
  stateDir: string | undefined;
  verbose: boolean;
  json: boolean;
}

function readOptions(): Options {
  const json = process.argv.includes('--json');
  try {
    const { values } = parseArgs({
      options: {
        port: { type: 'string', default: '8080' },
        'state-dir': { type: 'string' },
        verbose: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const port = /^\d+$/.test(values.port) ? Number(values.port) : Number.NaN;
    if (!(port <= 65_535)) {
      throw new Error(`--port must be a number from 0 to 65535, got ${JSON.stringify(values.port)}`);
    }
    return { port, stateDir: values['state-dir'], verbose: values.verbose, json };
  } catch (error) {
    const detail = (error as Error).message;
    const text = json
      ? JSON.stringify({ error: { code: 'invalid_option', detail } })
      : `${detail}\n\n${HELP}`;
    process.stderr.write(`${text}\n`);
    process.exit(2);
  }
}
