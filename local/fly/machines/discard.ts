import { sleep } from '../clock.ts';
import type { MachineContext } from './context.ts';

const attempts = 5;
const retryMs = 1_000;

/** Drops what a machine left on disk, with a few tries. False when that failed or local Fly is ending: nothing is proven then. */
export async function discardLeftovers(
  id: string,
  { clock, engine, log, isClosing }: MachineContext,
): Promise<boolean> {
  for (let attempt = 1; attempt <= attempts && !isClosing(); attempt++) {
    try {
      await engine.discard(id);
      return !isClosing();
    } catch (error) {
      log(`What machine ${id} left on disk could not be removed (try ${attempt} of ${attempts}): ${error}`);
      await sleep(clock, retryMs);
    }
  }
  return false;
}
