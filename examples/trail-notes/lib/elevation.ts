/** Naismith's rule: 12 minutes for each kilometre and 10 for each 100 metres of climb. */
export function walkingMinutes(metres: number, climb: number): number {
  return Math.round((metres / 1000) * 12 + (climb / 100) * 10);
}
