/**
 * A process that outlives local Fly for a moment: when the pipe that is its stdin closes, because local Fly ended or was killed, it
 * removes what local Fly's run has left in Docker, and ends. Arguments: Docker's socket, the run's id.
 */
import { once } from 'node:events';

const [, , socketPath, run] = process.argv;
/** Docker may still be making what local Fly asked for when it was killed. */
const EMPTY_LOOKS = 3;

process.stdin.on('error', () => {});
await once(process.stdin.resume(), 'close');
// Loaded only now: until then this process is to cost next to nothing.
const { dockerAt } = await import('./client.ts');
const { RUN } = await import('./ownership.ts');
const { removeLabelled } = await import('./removal.ts');
await removeLabelled(dockerAt(socketPath!).calls, RUN, run!, { emptyLooks: EMPTY_LOOKS });
