import { beforeEach, expect, test } from 'vitest';
import { engineMissing, runContainer } from './docker.ts';

/** Built before, as docs/images.md says: it takes minutes and npm's registry. */
const image = process.env.MOBVIBE_TEST_EXPO_IMAGE;
const missing = image ? engineMissing() : 'MOBVIBE_TEST_EXPO_IMAGE names no image of the target expo';
const LIMIT_MS = 600_000;

beforeEach(({ skip }) => skip(missing !== undefined, missing));

/** As user code in a machine of the default size, without network. */
function run(script: string) {
  return runContainer([
    ...[
      '--cpus',
      '1',
      '--memory',
      '1g',
      '--memory-swap',
      '1g',
      '--user',
      '1000:1000',
      '-e',
      'HOME=/home/user',
    ],
    ...['--entrypoint', 'bash', image!, '-euc', script],
  ]);
}

test(
  'a new app is made and exported for the web without network',
  async () => {
    const seconds = 'at() { read -r now _ </proc/uptime; echo "$1 $now"; }';
    const { code, stdout, stderr } = await run(
      `${seconds}; at start; new-expo-app my-app; at made; cd my-app; ` +
        'CI=1 npx expo export --platform web >/tmp/export.log 2>&1 || { cat /tmp/export.log >&2; exit 1; }; at exported; ' +
        'grep -o "<title>.*</title>" dist/index.html; ls dist/_expo/static/js/web; git rev-parse --is-inside-work-tree; ' +
        'awk \'{ print "cpu_s", $1 / 1e9 }\' /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || true',
    );
    expect(stderr).toBe('');
    expect(code).toBe(0);
    // For whoever measures; how long it takes here says nothing about the image.
    process.stdout.write(`${stdout}\n`);
    expect(stdout).toContain('my-app is ready');
    expect(stdout).toContain('<title>my-app</title>');
    expect(stdout).toMatch(/^entry-[0-9a-f]+\.js$/m);
  },
  LIMIT_MS,
);

test(
  'an app that is there already stays as it is',
  async () => {
    const { code, stdout, stderr } = await run(
      'mkdir a; echo mine >a/b; new-expo-app a || echo "code $?"; cat a/b; ls a',
    );
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: 'code 73\nmine\nb',
      stderr: 'new-expo-app: "a" is there already and is not empty',
    });
  },
  LIMIT_MS,
);

test(
  'has the command lines that it is said to have',
  async () => {
    const { stdout } = await run(
      'eas --version; create-expo-app --version; command -v expo expo-cli || echo no global expo',
    );
    expect(stdout).toMatch(/^eas-cli\/\d+\..*\n\d+\..*\nno global expo$/);
  },
  LIMIT_MS,
);
