/**
 * A process that outlives local Fly for a moment: when the pipe that is its stdin closes, because local Fly ended or was killed, it
 * removes what local Fly's run has left in Docker, and ends. Arguments: Docker's socket, the run's id.
 */
import { once } from 'node:events';
// Loaded now: when they are needed, the files may have been replaced by those of another version.
import { dockerAt } from './client.ts';
import { RUN } from './ownership.ts';
import { removeLabelled } from './removal.ts';

const [, , socketPath, run] = process.argv;
/** Docker may still be making what local Fly asked for when it was killed. */
const EMPTY_LOOKS = 3;

process.stdin.on('error', () => {});
await once(process.stdin.resume(), 'close');
await removeLabelled(dockerAt(socketPath!).calls, RUN, run!, { emptyLooks: EMPTY_LOOKS });
