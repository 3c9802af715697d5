import { Text } from 'react-native';
import { useUnits } from '../hooks/useUnits';
import { formatDistance } from '../lib/distance';

export function DistanceBadge({ metres }: { metres: number }) {
  return <Text>{formatDistance(metres, useUnits().units)}</Text>;
}
