/** Fly's limit for the name of an app is below 63 characters, for all of Fly (Fly docs, machines/api/apps-resource). */
const MOST = 60;

/**
 * The name of a Fly object: `<project>-<stack>-<part>`. Two stacks never share one, and what a stack has made is known by its name
 * alone. Throws where the parts don't make a name that Fly takes; nothing is cut off, as two long names could then become one.
 */
export function physicalName(project: string, stack: string, part: string): string {
  const name = `${project}-${stack}-${part}`;
  if (!/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/.test(name)) {
    throw new Error(
      `"${name}" is no name for a Fly app: lowercase letters, digits and single dashes; it is made of project "${project}", stack "${stack}" and "${part}"`,
    );
  }
  if (name.length > MOST) {
    throw new Error(
      `"${name}" has ${name.length} characters, a Fly app may have ${MOST}; give the stack "${stack}" a shorter name`,
    );
  }
  return name;
}

/** `pr-12`, `fix-login`: what a branch or pull request is called as a stack. At most 30 characters, an end of its own where cut. */
export function stackNameOf(branch: string, hash: (text: string) => string): string {
  const plain = branch
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  if (plain === '') throw new Error(`"${branch}" has no letter or digit to name a stack by`);
  if (plain.length <= 30 && plain === branch) return plain;
  // Two branches may become the same letters: a few digits of the whole name keep them apart.
  return `${plain.slice(0, 21).replace(/-+$/, '')}-${hash(branch).slice(0, 8)}`;
}
