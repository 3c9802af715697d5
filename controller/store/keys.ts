import { type Database, rows, value } from './database.ts';

export interface NewApiKey {
  id: string;
  name: string;
  /** SHA-256 of the key, hex: the key itself is never stored. */
  sha256: string;
}

export function keyStore(database: Database) {
  return {
    /** The live API key with this SHA-256 (hex), or null. */
    async checkApiKey(sha256: string): Promise<{ id: string; name: string } | null> {
      const found = await rows<{ id: string; name: string }>(
        'api_key_check',
        database.rpc('api_key_check', { p_sha256: sha256 }),
      );
      return found[0] ?? null;
    },

    async addApiKey(key: NewApiKey): Promise<void> {
      await value(
        'api_key_add',
        database.rpc('api_key_add', { p_id: key.id, p_name: key.name, p_sha256: key.sha256 }),
      );
    },
  };
}
