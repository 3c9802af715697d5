import type { PackObject } from '../agents/wire.ts';

/** An object of a version, and where it lies. */
export interface StoredObject extends PackObject {
  key: string;
}

/** The manifest of a version first, then every object of its packs, each once. */
export function objectsOf(
  session: string,
  manifest: PackObject,
  packs: readonly PackObject[],
): [StoredObject, ...StoredObject[]] {
  const byHash = new Map(packs.map(({ sha256, bytes }) => [sha256, bytes]));
  return [
    { key: `s/${session}/m/${manifest.sha256}`, sha256: manifest.sha256, bytes: manifest.bytes },
    ...[...byHash].map(([sha256, bytes]) => ({ key: packKey(session, sha256), sha256, bytes })),
  ];
}

export function packKey(session: string, sha256: string): string {
  return `s/${session}/p/${sha256}`;
}
