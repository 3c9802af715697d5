/** `mobvibe doctor`: looks at all that a `pulumi up` needs, says what is wrong and how to mend it. Exit code 1 when something is. */
import { parseArgs } from 'node:util';
import { examine, ROOT } from './examine.ts';
import type { Finding } from './finding.ts';

const USAGE = `Usage: node infra/doctor/main.ts [--stack NAME] [--json]
  --stack NAME        default: the selected one
  --json              one JSON value
  --project-dir DIR   folder of Pulumi.yaml; default: this project's
  --timeout SECONDS   of each check; default 15`;

try {
  const { values } = parseArgs({
    options: {
      stack: { type: 'string' },
      json: { type: 'boolean', default: false },
      'project-dir': { type: 'string', default: ROOT },
      timeout: { type: 'string', default: '15' },
    },
  });
  const seconds = Number(values.timeout);
  if (!(seconds > 0)) throw new Error(`--timeout: "${values.timeout}" is no number of seconds`);
  const findings = await examine({
    env: process.env,
    projectDir: values['project-dir'],
    stack: values.stack,
    timeoutMs: seconds * 1_000,
  });
  const isWrong = findings.some(({ status }) => status === 'wrong');
  const text = values.json ? JSON.stringify({ ok: !isWrong, findings }) : findings.map(line).join('\n');
  // Checks that gave no answer may still be under way: they end with this process.
  process.stdout.write(`${text}\n`, () => process.exit(isWrong ? 1 : 0));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
  process.exitCode = 2;
}

function line({ check, status, says, mend }: Finding): string {
  const first = `${status.padEnd(8)} ${check.padEnd(10)} ${says}`;
  return mend === undefined ? first : `${first}\n${' '.repeat(20)}$ ${mend}`;
}
