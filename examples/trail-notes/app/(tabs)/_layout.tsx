import { Tabs } from 'expo-router';
import { colors } from '../../constants/colors';

export default function TabLayout() {
  return (
    <Tabs screenOptions={{ tabBarActiveTintColor: colors.moss }}>
      <Tabs.Screen name="index" options={{ title: 'Trails' }} />
      <Tabs.Screen name="settings" options={{ title: 'Settings' }} />
      <Tabs.Screen name="[id]" options={{ href: null }} />
    </Tabs>
  );
}
