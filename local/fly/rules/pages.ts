import type { MachineRecord } from '../wire.ts';

const maxLimit = 1_000;

/** Where a record stands in the list of an org: least recently changed first, then by id. */
export function pageKey(record: Pick<MachineRecord, 'updated_at' | 'id'>): string {
  return `${record.updated_at}/${record.id}`;
}

/** At most `limit` records after `cursor` (the key of the last one seen), and the cursor of the next page; '' at the end. */
export function page(
  records: readonly MachineRecord[],
  { limit = maxLimit, cursor = '' }: { limit?: number; cursor?: string },
): { items: MachineRecord[]; next: string } {
  const after = records
    .filter((record) => pageKey(record) > cursor)
    .sort((a, b) => (pageKey(a) < pageKey(b) ? -1 : 1));
  const items = after.slice(0, Math.min(limit, maxLimit));
  return { items, next: after.length > items.length ? pageKey(items.at(-1)!) : '' };
}
