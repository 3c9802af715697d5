import { TextInput } from 'react-native';

export function SearchField({ value, onChange }: { value: string; onChange: (text: string) => void }) {
  return <TextInput value={value} onChangeText={onChange} placeholder="Search trails" clearButtonMode="always" />;
}
