/** What the scripts share that Pulumi runs by `@pulumi/command`. */

/**
 * Runs one and prints what it answers as one line of JSON on stdout. An error ends it with its message, which must hold no secret:
 * Pulumi shows it.
 */
export async function script(work: () => Promise<Record<string, unknown>>): Promise<void> {
  try {
    process.stdout.write(`${JSON.stringify(await work())}\n`);
  } catch (error) {
    say((error as Error).message);
    process.exitCode = 1;
  }
}

/** A variable that a script can't do without. Throws a sentence that names it. */
export function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

/** For the person who watches. */
export function say(sentence: string): void {
  process.stderr.write(`${sentence}\n`);
}
