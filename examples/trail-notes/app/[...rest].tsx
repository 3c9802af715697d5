import { Redirect, useLocalSearchParams } from 'expo-router';
import { slugify } from '../lib/slug';

/** Old links carried the trail's title; send them to its slug. */
export default function OldLink() {
  const { rest } = useLocalSearchParams<{ rest: string[] }>();
  return <Redirect href={`/${slugify((rest ?? []).join(' '))}`} />;
}
