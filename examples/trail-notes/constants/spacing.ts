export const spacing = { small: 4, medium: 12, large: 20 } as const;
