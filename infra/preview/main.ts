/** `npm run preview -- up|destroy|list|reap`; docs/previews.md. */
import { fileURLToPath } from 'node:url';
import { runPreview } from './cli.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
// Pulumi has had Ctrl-C from the terminal itself and lets what is under way end; told twice, it would drop it. A second one ends us.
process.once('SIGINT', () => {});

const code = await runPreview(process.argv.slice(2), ROOT, {
  out: (text) => process.stdout.write(`${text.trimEnd()}\n`),
  say: (text) => process.stderr.write(text),
  env: process.env,
  now: () => new Date(),
  signal: stop.signal,
});
// What a deadline has given up on must not keep us; what a pipe has not taken yet must not be lost.
process.stdout.write('', () => process.exit(code));
