import { Switch, Text, View } from 'react-native';
import { spacing } from '../../constants/spacing';
import { useUnits } from '../../hooks/useUnits';

export default function Settings() {
  const { units, toggle } = useUnits();
  return (
    <View style={{ padding: spacing.large, flexDirection: 'row' }}>
      <Text>Miles</Text>
      <Switch value={units === 'miles'} onValueChange={toggle} />
    </View>
  );
}
