import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MobVibe, type Session } from '../../client/index.ts';
import { dbUrlOf } from '../../local/supabase/keys.ts';
import { Missing, type Platforms, startPlatforms } from './platforms.ts';

const APPLY = fileURLToPath(new URL('apply-graph.ts', import.meta.url));
const TOKEN = 'org_for-the-tests-of-containers';
const MINUTES = 60_000;

const home = mkdtempSync(join(tmpdir(), 'mobvibe-containers-'));
// Postgres runs as another user where we are root.
chmodSync(home, 0o711);
let platforms: Platforms;
let missing: string | undefined;

beforeAll(async () => {
  platforms = await startPlatforms({ home, token: TOKEN, bare: false }).catch((error) => {
    if (!(error instanceof Missing)) throw error;
    missing = error.message;
    return undefined as unknown as Platforms;
  });
}, 5 * MINUTES);
afterAll(async () => {
  await platforms?.close();
  rmSync(home, { recursive: true, force: true });
}, MINUTES);

function apply(): { program: ChildProcess; outputs: Promise<{ controllerUrl: string; apiKey: string }> } {
  const { supabase, settings } = platforms;
  const all = {
    ...settings,
    // Callers and agents come to either controller, and each works for one of the cells.
    ...{ cells: '2', controllerMachines: '2' },
    supabaseServiceRoleKey: supabase.secretKey,
    supabaseDbUrl: dbUrlOf(supabase.connection),
  };
  const config = Object.fromEntries(Object.entries(all).map(([key, value]) => [`mobvibe:${key}`, value]));
  const program = spawn(process.execPath, [APPLY], {
    env: { ...process.env, FLY_API_TOKEN: TOKEN },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  program.stdin.write(`${JSON.stringify(config)}\n`);
  let said = '';
  program.stderr.on('data', (text) => {
    said += text;
  });
  const outputs = Promise.race([
    once(createInterface({ input: program.stdout }), 'line').then(([line]) => JSON.parse(line as string)),
    once(program, 'exit').then(([code]) => {
      throw new Error(`it ended with ${code}: ${said}\n${platforms.log.slice(-20).join('\n')}`);
    }),
  ]);
  return { program, outputs };
}

test(
  'what the program describes runs sessions in containers of its two images, and goes without a trace',
  async ({ skip }) => {
    skip(missing !== undefined, missing);
    const { program, outputs } = apply();
    const { controllerUrl, apiKey } = await outputs;
    using mobvibe = new MobVibe({ url: controllerUrl, apiKey });
    const { items } = await mobvibe.sessions.list();
    expect(items, 'the smoke check').toMatchObject([
      { id: expect.stringMatching(/^smoke-/), status: 'stopped' },
    ]);

    // Whichever controller takes a session starts it in its own cell, and whichever is asked finds it.
    const living = () =>
      Promise.all(
        [1, 2].map(async (cell) => (await platforms.containersOf(`mobvibe-demo-cell-${cell}`)).length),
      );
    const sessions: Session[] = [];
    while ((await living()).includes(0)) {
      expect(sessions.length, 'sessions until each cell has one').toBeLessThan(10);
      // A connection of its own: Fly's proxy gives each to the next controller.
      using another = new MobVibe({ url: controllerUrl, apiKey });
      const { id } = await another.sessions.create({ id: `s-${sessions.length}` });
      sessions.push(await mobvibe.sessions.get(id));
    }
    for (const session of [...sessions, ...sessions, ...sessions]) {
      expect(await session.exec('echo heard')).toMatchObject({ stdout: 'heard\n' });
    }

    const session = await mobvibe.sessions.create({ id: 'kept' });
    expect(await session.exec('id -u; echo kept > note')).toMatchObject({ exitCode: 0, stdout: '1000\n' });
    await session.stop();
    const again = await mobvibe.sessions.create({ id: 'kept' });
    expect(await again.exec('cat note')).toMatchObject({ stdout: 'kept\n' });
    // The name server, the API of Fly, a neighbour's agent: nothing that is not on its list answers.
    const { settings } = platforms;
    const flyPort = new URL(settings.flyApiUrl!).port;
    const look = `node -e 'require("net").connect(${flyPort}, "host.docker.internal").on("connect", () => console.log("reached")).on("error", ({ code }) => console.log(code))'`;
    expect((await again.exec(look)).stdout).toMatch(/^(EAI_AGAIN|ENOTFOUND)\n$/);

    const gone = once(program, 'exit');
    program.stdin!.end();
    expect(await gone).toEqual([0, null]);
    const apps = await fetch(`${settings.flyApiUrl}/v1/apps`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    expect(await apps.json()).toMatchObject({ total_apps: 0 });
    const ours = ['ctl', 'egress', 'cell-1', 'cell-2'].map((app) => `mobvibe-demo-${app}`);
    expect(await platforms.containersOf(...ours)).toEqual([]);
  },
  5 * MINUTES,
);
