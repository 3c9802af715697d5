import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import { objectsOf, type StoredObject } from './objects.ts';
import type { WorkspaceStorage } from './storage.ts';
import type { FairTurns } from './turns.ts';

/** So many of the newest versions are looked at, and so many objects of them. */
export const NEWEST = 10;
const MOST_OBJECTS = 2_000;

export interface WholeParts {
  store: Pick<Store, 'findManifest'>;
  storage: Pick<WorkspaceStorage, 'size' | 'ping'>;
  asking: FairTurns;
  suspects: ReadonlySet<string>;
}

export interface WholeVersions {
  /** Newest first: all objects are there, and as large as they should be. What is in them is not looked at. */
  versions: number[];
  /** How many versions were looked at. */
  looked: number;
  /** There were more objects than are looked at. */
  cut: boolean;
}

/** Which of the newest versions can be restored, as far as that shows from outside. Rejects where the storage itself is at fault. */
export async function findWhole(
  { store, storage, asking, suspects }: WholeParts,
  { name, session_id: session }: SandboxRow,
  head: number,
): Promise<WholeVersions> {
  // Without its bucket everything would be missing.
  await asking.run(name, () => storage.ping());
  const numbers = Array.from({ length: Math.min(NEWEST, head) }, (_, at) => head - at);
  const rows = await asking.each(name, numbers, (version) => store.findManifest(session, version));
  const versions = rows.flatMap((row) =>
    row === null ? [] : [{ version: row.version, objects: objectsOf(session, row, row.packs) }],
  );
  const wanted = new Map<string, StoredObject>();
  let looked = 0;
  for (const { objects } of versions) {
    if (looked > 0 && wanted.size + objects.length > MOST_OBJECTS) break;
    for (const object of objects) wanted.set(object.key, object);
    looked += 1;
  }
  const objects = [...wanted.values()];
  const sizes = await asking.each(name, objects, ({ key }) => storage.size(key));
  const whole = new Set(
    objects.filter(({ key, bytes }, at) => sizes[at] === bytes && !suspects.has(key)).map(({ key }) => key),
  );
  return {
    versions: versions
      .slice(0, looked)
      .filter(({ objects }) => objects.every(({ key }) => whole.has(key)))
      .map(({ version }) => version),
    looked,
    cut: looked < versions.length,
  };
}
