// Fills Metro's cache below $TMPDIR for the app in the folder given: what a dev server sends to a browser and to a phone,
// and what `expo export` makes for the web. The two kinds share no entry, nor do the platforms.
const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const { join } = require('node:path');

const PORT = 19000;
const ORIGIN = `http://127.0.0.1:${PORT}`;
const LIMIT_MS = 900_000;
const app = process.argv[2];
const expo = join(app, 'node_modules/.bin/expo');
const inApp = { cwd: app, stdio: ['ignore', 'inherit', 'inherit'] };

async function get(path, headers = {}) {
  const answer = await fetch(new URL(path, ORIGIN), { headers, signal: AbortSignal.timeout(LIMIT_MS) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text.slice(0, 2000)}`);
  return text;
}

async function untilUp(server) {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`the dev server ended with ${server.exitCode}`);
    if (await get('/status').catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function seedDevServer() {
  const server = spawn(
    join(process.cwd(), expo),
    ['start', '--web', '--port', String(PORT), '--localhost'],
    inApp,
  );
  try {
    await untilUp(server);
    const page = await get('/');
    const script = /<script src="([^"]+\.bundle[^"]*)"/.exec(page)?.[1];
    if (script === undefined) throw new Error(`no bundle in the page: ${page.slice(0, 2000)}`);
    await get(script.replaceAll('&amp;', '&'));
    for (const platform of ['android', 'ios']) {
      const manifest = await get('/', { 'expo-platform': platform, accept: 'application/json' });
      const { pathname, search } = new URL(JSON.parse(manifest).launchAsset.url);
      await get(pathname + search);
    }
  } finally {
    if (server.exitCode === null) {
      server.kill('SIGTERM');
      await once(server, 'exit');
    }
  }
}

async function main() {
  await seedDevServer();
  const env = { ...process.env, CI: '1' };
  const run = spawnSync(join(process.cwd(), expo), ['export', '--platform', 'web'], { ...inApp, env });
  if (run.status !== 0) throw new Error(`expo export ended with ${run.status ?? run.signal}`);
}

main();
