/** Fly's limit for the name of an app is below 63 characters, for all of Fly (Fly docs, machines/api/apps-resource). */
const MOST = 60;

/** Where a stack's Fly objects are made, and what their names begin with. */
export interface Place {
  /** Base URL of the Machines API. */
  endpoint: string;
  /** Slug of the Fly organisation. */
  org: string;
  project: string;
  stack: string;
}

/**
 * The name of a Fly object: `<project>-<stack>-<part>`. Two stacks never share one, and what a stack has made is known by its name
 * alone. Throws where the parts don't make a name that Fly takes; nothing is cut off, as two long names could then become one.
 */
export function physicalName({ project, stack }: Pick<Place, 'project' | 'stack'>, part: string): string {
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
