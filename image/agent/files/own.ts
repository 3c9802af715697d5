/** Names of ours in the workspace: they are neither listed nor saved. */
export const OWN_NAME = '.mobvibe';

export function isOwnName(name: string): boolean {
  return name === OWN_NAME || name.startsWith(`${OWN_NAME}.`);
}
