/** A process that starts Postgres on the folder it is given, says so in one line of JSON, and holds it until it is ended. */
import { startPostgres } from '../../local/supabase/postgres/index.ts';

const dataDir = process.argv[2]!;
try {
  const { connection, pid } = await startPostgres({ dataDir, throwAway: true });
  console.log(JSON.stringify({ connection, pid, uid: process.getuid?.() }));
  setInterval(() => {}, 60_000);
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  console.log(JSON.stringify({ error: { code, message } }));
}
