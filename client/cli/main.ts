import type { Writable } from 'node:stream';
import { runCli } from './cli.ts';

const code = await runCli(process.argv.slice(2), process);
// Exiting at once would cut off what a pipe has not taken yet.
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(code);

/** Also when the reader has gone. */
function flushed(stream: Writable): Promise<void> {
  stream.on('error', () => {});
  return new Promise((resolve) => stream.write('', () => resolve()));
}
