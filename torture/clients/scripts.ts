/** Programs that run in the sandboxes; Node is there wherever the agent is. */

/** Rows of some size, so that a page that is half new shows. One transaction for each; ends when it is killed. */
export function sqliteWriter(journal: 'wal' | 'delete'): string[] {
  return [
    'node',
    '--no-warnings',
    '-e',
    `const { DatabaseSync } = require('node:sqlite');
const db = new DatabaseSync('db.sqlite');
db.exec('pragma busy_timeout = 5000; pragma journal_mode = ${journal}; pragma wal_autocheckpoint = 20');
db.exec('create table if not exists t (id integer primary key, fill text); create index if not exists f on t (fill)');
const insert = db.prepare('insert into t (fill) values (?)');
const clock = new Int32Array(new SharedArrayBuffer(4));
for (let n = 0; ; n++) {
  db.exec('begin immediate');
  for (let i = 0; i < 5; i++) insert.run(String(Math.random()).repeat(40));
  db.exec('commit');
  Atomics.wait(clock, 0, 0, 15);
}`,
  ];
}

/** Commits one after another, in a repository of its own. One at a time: a second one would take the first one's locks away. */
export const GIT_WRITER = `command -v git >/dev/null && command -v flock >/dev/null || exit 0
exec 9>git-writer.lock; flock -n 9 || exit 0
mkdir -p g && cd g || exit 1
rm -f .git/index.lock .git/HEAD.lock .git/refs/heads/*.lock
[ -d .git ] && git rev-parse --git-dir >/dev/null 2>&1 || git init -q -b main .
git config user.email a@b.c; git config user.name a; git config gc.auto 0
n=0
while :; do
  n=$((n+1)); echo "$n $$" > "f$((n%7))"; git add -A; git commit -q --allow-empty -m "$n"; sleep 0.03
done`;

/** All that is in the workspace, in one line of JSON. \`deep\`: databases and repositories are checked, which takes that nobody writes. */
export function observer(deep: boolean): string[] {
  return [
    'node',
    '--no-warnings',
    '-e',
    `const fs = require('node:fs'), { createHash } = require('node:crypto'), { spawnSync } = require('node:child_process');
const lines = (f) => { try { return fs.readFileSync(f, 'utf8').split('\\n').slice(0, -1); } catch { return []; } };
const seen = { log: lines('log.txt'), jobs: lines('jobs.txt'), files: {} };
for (const folder of ['f', 'in']) {
  let names = [];
  try { names = fs.readdirSync(folder); } catch {}
  for (const name of names) {
    if (name.startsWith('.')) continue;
    try {
      const data = fs.readFileSync(folder + '/' + name);
      seen.files[folder + '/' + name] = data.length + ':' + createHash('sha256').update(data).digest('hex').slice(0, 16);
    } catch {}
  }
}
const deep = ${deep};
if (fs.existsSync('db.sqlite')) {
  try {
    const { DatabaseSync } = require('node:sqlite');
    const db = new DatabaseSync('db.sqlite');
    db.exec('pragma busy_timeout = 5000');
    const there = db.prepare("select count(*) c from sqlite_master where name = 't'").get().c;
    const count = there ? db.prepare('select count(*) c from t').get().c : 0;
    const check = deep ? db.prepare('pragma integrity_check').get().integrity_check : 'ok';
    seen.sqlite = { count, ...(check === 'ok' ? {} : { problem: check.slice(0, 200) }) };
  } catch (error) { seen.sqlite = { count: 0, problem: error.message }; }
}
if (fs.existsSync('g/.git/HEAD')) {
  const git = (...args) => spawnSync('git', ['-C', 'g', ...args], { encoding: 'utf8' });
  const head = git('rev-list', '--count', 'HEAD');
  const born = fs.existsSync('g/.git/refs/heads/main');
  const fsck = deep && born ? git('fsck', '--full', '--strict') : { status: 0 };
  const problem = born && head.status !== 0 ? head.stderr : fsck.status === 0 ? '' : fsck.stderr || fsck.stdout;
  seen.git = { count: Number(head.stdout) || 0, ...(problem ? { problem: problem.trim().slice(0, 200) } : {}) };
}
console.log(JSON.stringify(seen));`,
  ];
}
