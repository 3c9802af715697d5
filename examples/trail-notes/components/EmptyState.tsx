import type { ReactNode } from 'react';
import { Text, View } from 'react-native';
import { spacing } from '../constants/spacing';

export function EmptyState({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <View style={{ padding: spacing.large, alignItems: 'center' }}>
      <Text>{title}</Text>
      {children}
    </View>
  );
}
