import { useState } from 'react';
import { FlatList } from 'react-native';
import { EmptyState } from '../../components/EmptyState';
import { SearchField } from '../../components/SearchField';
import { TrailCard } from '../../components/TrailCard';
import { useTrails } from '../../hooks/useTrails';
import { matching } from '../../lib/search';

export default function Trails() {
  const [query, setQuery] = useState('');
  const trails = matching(useTrails(), query);
  return (
    <>
      <SearchField value={query} onChange={setQuery} />
      <FlatList
        data={trails}
        keyExtractor={(trail) => trail.id}
        renderItem={({ item }) => <TrailCard trail={item} />}
        ListEmptyComponent={<EmptyState title="No trail by that name" />}
      />
    </>
  );
}
