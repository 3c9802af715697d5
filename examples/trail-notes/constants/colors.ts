export const colors = { moss: '#3c6e47', paper: '#faf7f0', ink: '#1f2a24' } as const;
