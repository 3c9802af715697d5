import { useLocalSearchParams } from 'expo-router';
import { Text, View } from 'react-native';
import { DistanceBadge } from '../../components/DistanceBadge';
import { EmptyState } from '../../components/EmptyState';
import { spacing } from '../../constants/spacing';
import { useTrails } from '../../hooks/useTrails';
import { walkingMinutes } from '../../lib/elevation';

export default function Trail() {
  const { id } = useLocalSearchParams<{ id: string }>();
  const trail = useTrails().find((candidate) => candidate.id === id);
  if (!trail) return <EmptyState title="No such trail" />;
  return (
    <View style={{ padding: spacing.large, gap: spacing.small }}>
      <Text>{trail.title}</Text>
      <DistanceBadge metres={trail.metres} />
      <Text>{walkingMinutes(trail.metres, trail.climb)} minutes</Text>
    </View>
  );
}
