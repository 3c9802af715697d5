import { useCallback, useState } from 'react';
import type { Units } from '../lib/distance';

export function useUnits() {
  const [units, setUnits] = useState<Units>('kilometres');
  const toggle = useCallback(() => setUnits((now) => (now === 'miles' ? 'kilometres' : 'miles')), []);
  return { units, toggle };
}
