import { useState } from 'react';
import { TextInput, View } from 'react-native';
import { spacing } from '../constants/spacing';

export default function AddNote() {
  const [note, setNote] = useState('');
  return (
    <View style={{ padding: spacing.large }}>
      <TextInput value={note} onChangeText={setNote} placeholder="What did you see?" multiline />
    </View>
  );
}
