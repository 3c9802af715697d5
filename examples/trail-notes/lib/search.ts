export interface Trail {
  id: string;
  title: string;
  metres: number;
  climb: number;
}

const fold = (text: string) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

/** Trails whose title holds every word of the query, whatever the case and the accents. */
export function matching(trails: readonly Trail[], query: string): Trail[] {
  const words = fold(query).split(/\s+/).filter(Boolean);
  return trails.filter((trail) => words.every((word) => fold(trail.title).includes(word)));
}
