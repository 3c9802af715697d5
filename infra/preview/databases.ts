/**
 * Whose database a preview may have. A controller takes every session in its database for its own, so a preview that shares one with
 * production, or with another preview, would stop the other's sandboxes.
 */

/** What tells a Supabase project from others: host and port of its URL, which for a hosted project begins with its reference. */
export function databaseOf(supabaseUrl: string): string {
  const url = URL.parse(supabaseUrl);
  if (url === null || url.host === '')
    throw new Error(`supabaseUrl is "${supabaseUrl}": the URL of a Supabase project`);
  return url.host.toLowerCase();
}

/** Of a hosted project: 20 letters, in its URL and in every connection string of its database, be it direct or pooled. */
const referenceOf = (host: string): string | undefined =>
  /^([a-z0-9]{20})\.supabase\.(?:co|red|in)$/.exec(host)?.[1];

export interface Databases {
  /** Of the preview. */
  supabaseUrl: string;
  /** Of the preview; never shown. */
  dbUrl: string;
  /** Where production is, as far as is known. */
  production: readonly string[];
  /** `databaseOf` of the other previews. */
  others: readonly { stack: string; database: string }[];
}

/** Throws a sentence that says whose it is, where it is somebody else's. */
export function refuseSharedDatabase({ supabaseUrl, dbUrl, production, others }: Databases): void {
  const database = databaseOf(supabaseUrl);
  for (const url of production) {
    const theirs = databaseOf(url);
    const reference = referenceOf(theirs);
    if (theirs === database) {
      throw new Error(
        `supabaseUrl is "${supabaseUrl}", which is production's: a preview needs a Supabase project of its own`,
      );
    }
    if (reference !== undefined && dbUrl.toLowerCase().includes(reference)) {
      throw new Error(
        `SUPABASE_DB_URL is production's database (project ${reference}): a preview needs a Supabase project of its own`,
      );
    }
  }
  const other = others.find((one) => one.database === database);
  if (other !== undefined) {
    throw new Error(
      `supabaseUrl is "${supabaseUrl}", which the preview ${other.stack} uses: each needs a Supabase project of its own; destroy that one, or take another project`,
    );
  }
}
