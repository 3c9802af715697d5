import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Quiet } from '../../../image/agent/workspace/pack.ts';
import { Storage } from '../storage.ts';
import { packed, packerOf, restored } from './packing.ts';
import { UserCode } from './user-code.ts';

let storage: Storage;
let dir: string;
let tree: string;
beforeAll(async () => {
  storage = await Storage.start();
});
afterAll(() => storage[Symbol.asyncDispose]());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'moment-'));
  tree = join(dir, 'tree');
  mkdirSync(tree);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** The same without holding anybody. */
const unheld: Quiet = async (work) => ({ value: await work(), atomic: false, pausedMs: 0 });

const ACCOUNTS = 3_000;
/** Moves money between accounts that lie far apart, in a database too large to be read in one go; their sum stays 0. */
const BANK = (journal: string) => `
const { DatabaseSync } = require('node:sqlite');
const db = new DatabaseSync('bank.db');
db.exec("pragma journal_mode = ${journal}; pragma wal_autocheckpoint = 50; pragma cache_size = 20; create table account (id integer primary key, balance integer, filler text)");
const add = db.prepare('insert into account values (?, 0, ?)');
db.exec('begin');
for (let id = 0; id < ${ACCOUNTS}; id += 1) add.run(id, 'x'.repeat(1800));
db.exec('commit');
console.log('ready');
const change = db.prepare('update account set balance = balance + ? where id = ?');
for (let n = 1; ; n += 1) {
  db.exec('begin');
  for (let k = 0; k < 40; k += 1) {
    change.run(n, (n * 7919 + k * 613) % ${ACCOUNTS});
    change.run(-n, (n * 104729 + k * 389) % ${ACCOUNTS});
  }
  db.exec('commit');
}`;

/** What is wrong with the database that was restored; undefined: nothing. */
function wrongWithBank(place: string): string | undefined {
  try {
    const db = new DatabaseSync(join(place, 'bank.db'));
    const { integrity_check } = db.prepare('pragma integrity_check').get() as { integrity_check: string };
    const { sum, count } = db.prepare('select sum(balance) as sum, count(*) as count from account').get()!;
    db.close();
    if (integrity_check !== 'ok') return integrity_check;
    return sum === 0 && count === ACCOUNTS ? undefined : `the sum is ${sum} of ${count} accounts`;
  } catch (error) {
    return (error as Error).message;
  }
}

const COMMITS = `
git init -q -b main . && git config user.email u@example.org && git config user.name u && git config gc.auto 0
n=0; while :; do n=$((n+1)); echo $n > file$((n % 20)); git add -A; git commit -qm "commit $n"; [ $n = 20 ] && echo ready; done`;

function wrongWithRepository(place: string): string | undefined {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { cwd: place, encoding: 'utf8', stdio: 'pipe' });
    git('fsck', '--full', '--strict');
    expect(Number(git('rev-list', '--count', 'HEAD'))).toBeGreaterThan(0);
    return undefined;
  } catch (error) {
    return String((error as { stderr?: string }).stderr || error);
  }
}

describe.each<[string, [string, ...string[]], (place: string) => string | undefined]>([
  ['a SQLite database with a WAL', [process.execPath, '-e', BANK('wal')], wrongWithBank],
  ['a SQLite database with a rollback journal', [process.execPath, '-e', BANK('delete')], wrongWithBank],
  ['a git repository', ['sh', '-c', COMMITS], wrongWithRepository],
])('%s that is being written', (_what, [file, ...args], wrongWith) => {
  test('comes back whole where everybody is held while it is read', async () => {
    await using code = await UserCode.start(tree, file, ...args);
    const packer = packerOf(tree, dir, { quiet: code.quiet });
    for (let save = 1; save <= 4; save += 1) {
      const result = await packed(packer);
      expect(result).toMatchObject({ atomic: true, paused_ms: expect.any(Number) });
      const place = await restored(packer, result, storage, dir);
      expect(wrongWith(place)).toBeUndefined();
      expect([code.pauses, code.running]).toEqual([save, true]);
    }
  });

  test('comes back torn where nobody is', async () => {
    await using code = await UserCode.start(tree, file, ...args);
    const packer = packerOf(tree, dir, { quiet: unheld });
    let wrong: string | undefined;
    // The test's own time limit catches what never happens.
    while (wrong === undefined) {
      const result = await packed(packer);
      expect(result.atomic).toBe(false);
      wrong = wrongWith(await restored(packer, result, storage, dir));
    }
    expect(code.running).toBe(true);
  });
});

describe('the moment that is saved', () => {
  const held = (meddle: () => void) => {
    const calls: number[] = [];
    const quiet: Quiet = async (work, mostMs) => {
      calls.push(mostMs);
      meddle();
      return { value: await work(), atomic: true, pausedMs: 12 };
    };
    return { calls, quiet };
  };
  const files = (place: string) => (name: string) => readFileSync(join(place, name), 'utf8');

  test('is found without holding anybody where nothing changes, also right after it was written', async () => {
    const { calls, quiet } = held(() => {});
    writeFileSync(join(tree, 'new'), 'text');
    const result = await packed(packerOf(tree, dir, { quiet }));
    expect(result).toMatchObject({ atomic: true, paused_ms: 0 });
    expect(calls).toEqual([]);
    expect(await packed(packerOf(tree, dir), { pause_ms: 0 })).toMatchObject({ atomic: true, paused_ms: 0 });
  });

  /** Changes a file at every look until it is held, as a program would that goes on writing. */
  function restless(change: () => void, inPause = change) {
    let looks = 0;
    const { calls, quiet } = held(inPause);
    const stillWanted = () => {
      looks += 1;
      if (calls.length === 0) change();
    };
    return { calls, quiet, run: { stillWanted, progress: () => {} }, looks: () => looks };
  }

  test('is the one of the pause, small and large, new and gone; what had been packed before does no harm', async () => {
    let n = 0;
    const large = (text: number) => `${text}`.padEnd(5 << 20, 'x');
    writeFileSync(join(tree, 'same'), 'same');
    const { calls, quiet, run } = restless(() => {
      n += 1;
      writeFileSync(join(tree, 'small'), `${n}`);
      writeFileSync(join(tree, 'large'), large(n));
      rmSync(join(tree, `file${n - 1}`), { force: true });
      writeFileSync(join(tree, `file${n}`), 'fresh');
    });
    const packer = packerOf(tree, dir, { quiet });
    const result = await packer.pack({ base: 0, pause_ms: 300 }, run);
    if (!result.changed) throw new Error('nothing was packed');
    expect(calls).toEqual([300]);
    expect(result).toMatchObject({ atomic: true, paused_ms: 12, files: 4 });
    const text = files(await restored(packer, result, storage, dir));
    expect([text('small'), text('same'), text(`file${n}`)]).toEqual([`${n}`, 'same', 'fresh']);
    expect(text('large') === large(n)).toBe(true);
  });

  test('is the one of the pause also for what had stood still until then, and was packed', async () => {
    writeFileSync(join(tree, 'early'), 'packed in vain');
    const { quiet, run } = restless(
      () => appendFileSync(join(tree, 'log'), 'line\n'),
      () => writeFileSync(join(tree, 'early'), 'changed'),
    );
    const packer = packerOf(tree, dir, { quiet });
    const result = await packer.pack({ base: 0 }, run);
    if (!result.changed) throw new Error('nothing was packed');
    expect(files(await restored(packer, result, storage, dir))('early')).toBe('changed');
  });

  test('does not lie between two looks of which the second sees what was changed and changed back', async () => {
    const at = join(tree, 'file');
    writeFileSync(at, 'same');
    const probe = join(dir, 'probe');
    // Time stamps have a grain: until the next one a change could not be told.
    const tick = () => {
      writeFileSync(probe, '');
      return statSync(probe).ctimeMs;
    };
    await expect.poll(tick).toBeGreaterThan(statSync(at).ctimeMs);
    const { calls, quiet, run } = restless(() => {
      writeFileSync(at, 'else');
      writeFileSync(at, 'same');
    });
    expect(await packerOf(tree, dir, { quiet }).pack({ base: 0 }, run)).toMatchObject({ paused_ms: 12 });
    expect(calls).toHaveLength(1);
  });

  test('is given up and said so where no pause is allowed', async () => {
    const { calls, quiet, run } = restless(() => appendFileSync(join(tree, 'log'), 'line\n'));
    const packer = packerOf(tree, dir, { quiet });
    expect(await packer.pack({ base: 0, pause_ms: 0 }, run)).toMatchObject({ atomic: false, paused_ms: 0 });
    expect(calls).toEqual([]);
  });

  test('has no folder of its own afterwards: what was set aside is gone', async () => {
    const { quiet, run } = restless(() => appendFileSync(join(tree, 'log'), 'line\n'));
    const packer = packerOf(tree, dir, { quiet });
    const result = await packer.pack({ base: 0 }, run);
    if (!result.changed) throw new Error('nothing was packed');
    const spool = packer.spool(result.pack_id);
    for (const name of ['held', 'copy', 'writing']) expect(existsSync(join(spool.dir, name))).toBe(false);
  });
});
