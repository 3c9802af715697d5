import trails from '../data/trails.json';
import type { Trail } from '../lib/search';

export function useTrails(): Trail[] {
  return trails;
}
