import { Link } from 'expo-router';
import { EmptyState } from '../components/EmptyState';

export default function NotFound() {
  return (
    <EmptyState title="This path ends here">
      <Link href="/">Back to the trailhead</Link>
    </EmptyState>
  );
}
