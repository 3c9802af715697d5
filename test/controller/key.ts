import { createHash, randomUUID } from 'node:crypto';
import type { Store } from '../../controller/store/index.ts';

/** An API key that the database knows. */
export async function newKey(store: Store): Promise<string> {
  const id = randomUUID();
  const key = `mvk_${id.replaceAll('-', '')}`;
  await store.addApiKey({ id, name: 'a test', sha256: createHash('sha256').update(key).digest('hex') });
  return key;
}
