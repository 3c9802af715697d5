import type { Store } from '../store/index.ts';
import type { Cells } from './cells.ts';
import { SESSION_ID } from './names.ts';
import type { OpenSandboxes } from './open-sandboxes.ts';
import { pause } from './pause.ts';

const WAIT_MS = 250;
const MOST_WAIT_MS = 5_000;

export interface WhereaboutsDeps {
  store: Pick<Store, 'findLiveSandbox'>;
  cells: Cells;
  open: Pick<OpenSandboxes, 'knows'>;
}

/**
 * Base URL of the controller that requests about this session are for; null where that is this one, or none is known. The database is
 * asked only where there are other controllers and the session's agent is not connected here. `starts`: the request may start a sandbox.
 */
export async function whereabouts(
  { store, cells, open }: WhereaboutsDeps,
  session: string,
  starts: boolean,
): Promise<string | null> {
  if (cells.hasAll || open.knows(session) || !SESSION_ID.test(session)) return null;
  const sandbox = await store.findLiveSandbox(session);
  if (sandbox === null) return starts ? cells.elsewhereToStart() : null;
  // In the moment in which a cell changes hands nobody works for it.
  for (let wait = 0; wait < MOST_WAIT_MS; wait += WAIT_MS) {
    const address = await cells.elsewhere(sandbox.app);
    if (address !== null || cells.holds(sandbox.app)) return address;
    await pause(WAIT_MS);
  }
  return null;
}
