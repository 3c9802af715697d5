import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { MobVibe, MobVibeError } from '../index.ts';

/**
 * From `MOBVIBE_URL` and `MOBVIBE_API_KEY`; what is not set there, from the file that the local stack writes.
 * Throws `invalid_option`, saying what to do, when there is no way to a controller.
 */
export function connect(env: NodeJS.ProcessEnv): MobVibe {
  const { MOBVIBE_URL: url, MOBVIBE_API_KEY: apiKey } = env;
  if (url && apiKey) return new MobVibe({ url, apiKey });
  const path = env.MOBVIBE_CONFIG_FILE || join(homedir(), '.mobvibe', 'local.json');
  const file = readSettings(path);
  return new MobVibe({ url: url || file.url, apiKey: apiKey || file.apiKey });
}

function readSettings(path: string): { url: string; apiKey: string } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const what = code === 'ENOENT' ? `there is no ${path}` : `${path} can't be read (${code})`;
    throw mistake(
      `No controller to talk to: ${what}. Run "mobvibe up", or set MOBVIBE_URL and MOBVIBE_API_KEY.`,
    );
  }
  try {
    const { url, apiKey } = JSON.parse(text);
    if (typeof url === 'string' && typeof apiKey === 'string') return { url, apiKey };
  } catch {
    // Said below.
  }
  throw mistake(`${path} is not JSON with "url" and "apiKey". Run "mobvibe up" to write it anew.`);
}

const mistake = (detail: string) => new MobVibeError('invalid_option', 'mistake', detail);
