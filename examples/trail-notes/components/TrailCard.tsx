import { Link } from 'expo-router';
import { Text, View } from 'react-native';
import { colors } from '../constants/colors';
import { spacing } from '../constants/spacing';
import type { Trail } from '../lib/search';
import { DistanceBadge } from './DistanceBadge';

export function TrailCard({ trail }: { trail: Trail }) {
  return (
    <Link href={`/${trail.id}`}>
      <View style={{ padding: spacing.medium, backgroundColor: colors.paper }}>
        <Text>{trail.title}</Text>
        <DistanceBadge metres={trail.metres} />
      </View>
    </Link>
  );
}
