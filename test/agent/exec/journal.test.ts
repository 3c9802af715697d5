import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Journal } from '../../../image/agent/exec/journal.ts';

test('a line that was cut off takes no other with it', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'exec-journal-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const whole = JSON.stringify({ start: 'whole', key: 'k', at: 1 });
  await writeFile(join(dir, 'execs.journal'), `${whole}\n${whole.slice(0, 12)}`);
  new Journal(dir).starts('next', 'k', 2);
  expect([...new Journal(dir).past.keys()]).toEqual(['whole', 'next']);
});
