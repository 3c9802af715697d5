import { parseArgs } from 'node:util';
import { startLocalSupabase } from './server.ts';

const USAGE =
  'usage: node local/supabase/main.ts --state-dir DIR [--port N] [--db-port N] [--bare] [--tethered] [--throw-away]';

const { values } = parseArgs({
  options: {
    'state-dir': { type: 'string' },
    port: { type: 'string', default: '0' },
    /** Of Postgres. */
    'db-port': { type: 'string', default: '0' },
    /** Without our migrations, as a new project is: whoever uses it applies them. */
    bare: { type: 'boolean', default: false },
    /** Ends when stdin closes: with the process that started it, however that one ends. */
    tethered: { type: 'boolean', default: false },
    /** For tests: a power cut may lose the database's data. */
    'throw-away': { type: 'boolean', default: false },
  },
});
const stateDir = values['state-dir'];
if (!stateDir) fail(`--state-dir is missing\n${USAGE}`);
const port = parsePort('port');
const dbPort = parsePort('db-port');

// Asked to stop while still starting: Postgres is stopped as soon as it is up.
let stop = (): void => {
  stopAsked = true;
};
let stopAsked = false;
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop());
if (values.tethered) process.stdin.resume().once('close', () => stop());

const supabase = await startLocalSupabase({
  stateDir,
  port,
  dbPort,
  bare: values.bare,
  throwAway: values['throw-away'],
  log: (line) => console.error(line),
}).catch((error: Error) => fail(`local Supabase did not start: ${error.message}`));
let stopping = false;
stop = () => {
  if (stopping) return;
  stopping = true;
  supabase.close().then(
    () => process.exit(0),
    (error: Error) => fail(`local Supabase did not stop cleanly: ${error.message}`),
  );
};
void supabase.exited.then(({ code, signal }) => {
  if (!stopping) fail(`Postgres ended by itself (${signal ?? `code ${code}`})`);
});
if (stopAsked) stop();
else {
  console.error(`local Supabase (a stand-in, not Supabase) on ${supabase.url}`);
  const { url, secretKeyFile, dbUrlFile } = supabase;
  console.log(JSON.stringify({ ready: true, url, secretKeyFile, dbUrlFile }));
}

function parsePort(name: 'port' | 'db-port'): number {
  const number = Number(values[name]);
  if (!Number.isInteger(number) || number < 0 || number > 65_535)
    fail(`--${name} ${values[name]} is no port number\n${USAGE}`);
  return number;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
