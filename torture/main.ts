/** `npm run torture -- --seed S --seconds N`: everything breaks at random, and nothing that was acknowledged may be lost. */
import { parseArgs } from 'node:util';
import { describeFailures, summary } from './report.ts';
import { torture } from './run.ts';

const HELP = `Runs the whole product in a throw-away folder, uses it from several clients, breaks its parts at random, and
checks in the end that nothing is lost that was acknowledged. Exit code 1 when something is; its folder is kept then.

  npm run torture -- [--seed S] [--seconds N] [--clients N] [--controllers N] [--keep]

  --seed         the same seed gives the same faults (default: one at random, printed)
  --seconds      how long faults strike (default 150)
  --clients      each with a session of its own (default 6)
  --controllers  of one stack with two cells (default 3)
  --keep         keep the folder with all logs and histories
`;
/** On top of the faults' time: to start, to settle and to judge. */
const MOST_SETTLE_MS = 900_000;

const options = readOptions();
const say = (line: string) => void process.stdout.write(`${line}\n`);
say(`seed ${options.seed}`);
setTimeout(
  () => {
    process.stderr.write(`The run with the seed ${options.seed} did not end by itself\n`);
    process.exit(3);
  },
  options.seconds * 1000 + MOST_SETTLE_MS,
).unref();

const report = await torture({ ...options, say });
say(`seed ${report.seed}: ${summary(report)}`);
if (report.failures.length > 0) say(`\n${describeFailures(report)}`);
if (report.failures.length > 0 || options.keep) say(`\nlogs and histories: ${report.folder}`);
process.exit(report.failures.length > 0 ? 1 : 0);

function readOptions() {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
      seconds: { type: 'string', default: '150' },
      clients: { type: 'string', default: '6' },
      controllers: { type: 'string', default: '3' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const number = (name: 'seed' | 'seconds' | 'clients' | 'controllers', least: number) => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= least) return value;
    process.stderr.write(`--${name} must be a whole number from ${least} on, got ${values[name]}\n`);
    process.exit(2);
  };
  return {
    seed: number('seed', 0),
    seconds: number('seconds', 1),
    clients: number('clients', 1),
    controllers: number('controllers', 1),
    keep: values.keep,
  };
}
