import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import * as command from '@pulumi/command';
import * as pulumi from '@pulumi/pulumi';
import { action } from './action.ts';
import { ApiKey } from './resources/api-key.ts';

export interface DatabaseArgs {
  stack: string;
  supabaseUrl: string;
  serviceRoleKey: pulumi.Input<string>;
  dbUrl: pulumi.Input<string>;
}

const MIGRATIONS = new URL('../supabase/migrations/', import.meta.url);

/** The Supabase project brought up to our migrations, and an API key of the controller. Nothing of it is undone by a destroy but the key. */
export class Database extends pulumi.ComponentResource {
  /** Of the newest migration. */
  readonly schemaVersion: string;
  /** Secret. */
  readonly apiKey: pulumi.Output<string>;
  readonly migrated: command.local.Command;

  constructor(name: string, args: DatabaseArgs, opts?: pulumi.ComponentResourceOptions) {
    super('mobvibe:infra:Database', name, {}, opts);
    const { version, sha256 } = schemaOf(MIGRATIONS);
    this.schemaVersion = version;
    this.migrated = new command.local.Command(
      `${name}-migrate`,
      // The hash is not read: a new file changes it, and a changed environment is an update.
      action({ up: 'migrate', environment: { SUPABASE_DB_URL: args.dbUrl, MIGRATIONS_SHA256: sha256 } }),
      { parent: this },
    );
    const made = new ApiKey(
      `${name}-api-key`,
      {
        supabaseUrl: args.supabaseUrl,
        serviceRoleKey: args.serviceRoleKey,
        keyId: `stack-${args.stack}`,
        name: `made by pulumi for the stack ${args.stack}`,
      },
      { parent: this, dependsOn: [this.migrated] },
    );
    this.apiKey = pulumi.secret(made.key);
    this.registerOutputs({ schemaVersion: this.schemaVersion });
  }
}

export function schemaOf(folder: URL): { version: string; sha256: string } {
  const hash = createHash('sha256');
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort();
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(new URL(file, folder)));
  return { version: files.at(-1)?.slice(0, 14) ?? '', sha256: hash.digest('hex') };
}
