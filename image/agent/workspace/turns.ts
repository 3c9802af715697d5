/** Does something for every item, at most `width` at once. Rejects with the first failure, when all under way have settled. */
export async function inTurns<T>(items: T[], width: number, act: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const failures: unknown[] = [];
  const work = async () => {
    for (const item of left) {
      if (failures.length > 0) return;
      await act(item).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, work));
  if (failures.length > 0) throw failures[0];
}
