/** `node controller/keys.ts add NAME`: makes an API key, stores its SHA-256 and prints the key, this once. */
import { createHash, randomBytes } from 'node:crypto';
import { connectDatabase, createStore } from './store/index.ts';

async function main([command, name, ...rest]: string[]): Promise<void> {
  if (command !== 'add' || name === undefined || name === '' || rest.length > 0) {
    throw new Error('usage: node controller/keys.ts add NAME');
  }
  const { SUPABASE_URL: url, SUPABASE_SERVICE_ROLE_KEY: serviceKey } = process.env;
  if (!url) throw new Error('SUPABASE_URL is not set');
  if (!serviceKey) throw new Error('SUPABASE_SERVICE_ROLE_KEY is not set');
  const key = `mvk_${randomBytes(32).toString('base64url')}`;
  const id = `k-${randomBytes(8).toString('hex')}`;
  const sha256 = createHash('sha256').update(key).digest('hex');
  await createStore(connectDatabase(url, serviceKey, 10_000)).addApiKey({ id, name, sha256 });
  process.stderr.write(`Key ${id} for "${name}". It is shown once and can't be read again:\n`);
  process.stdout.write(`${key}\n`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
});
