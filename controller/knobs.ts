/** One setting: from which variable it comes and what it may be. */
export interface Knob {
  variable: string;
  /** Throws a sentence that says what was expected. */
  parse: (text: string) => unknown;
  /** Neither a default nor `optional`: the variable must be set. */
  default?: string | number;
  optional?: true;
  /** Its value is never shown. */
  secret?: true;
  why: string;
}

/** What is wrong with the settings, each sentence with the name of its variable. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** Reads each knob from its variable; an empty variable counts as not set. Tells of all that is wrong at once. */
export function readKnobs(
  knobs: Record<string, Knob>,
  env: Record<string, string | undefined>,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, knob] of Object.entries(knobs)) {
    const text = env[knob.variable];
    if (text === undefined || text === '') {
      if (knob.default === undefined && !knob.optional)
        problems.push(`${knob.variable} is not set: ${knob.why}`);
      values[name] = knob.default;
      continue;
    }
    try {
      values[name] = knob.parse(text);
    } catch (error) {
      const shown = knob.secret ? 'has a value that is not shown' : `is ${JSON.stringify(text)}`;
      problems.push(`${knob.variable} ${shown}; expected ${(error as Error).message}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return values;
}

export const matching = (form: RegExp, expected: string) => (text: string) => {
  if (!form.test(text)) throw new Error(expected);
  return text;
};

export const listOf = (item: RegExp, expected: string) => (text: string) => {
  if (!text.split(',').every((part) => item.test(part))) throw new Error(expected);
  return text;
};

/** The parts of a list, each once and in the order given. */
export const distinct = (item: RegExp, expected: string) => (text: string) => {
  const parts = text.split(',');
  if (!parts.every((part) => item.test(part)) || new Set(parts).size < parts.length)
    throw new Error(expected);
  return parts as readonly string[];
};

export const integer = (least: number, most: number) => (text: string) => {
  const number = Number(text);
  if (!/^\d{1,15}$/.test(text) || number < least || number > most) {
    throw new Error(`a whole number from ${least} to ${most}`);
  }
  return number;
};

export const oneOf =
  <const Choice extends string>(...choices: Choice[]) =>
  (text: string): Choice => {
    const choice = choices.find((one) => one === text);
    if (choice === undefined) throw new Error(`one of ${choices.join(', ')}`);
    return choice;
  };

/** An absolute path of at most `bytes` bytes. */
export const path = (bytes: number) => (text: string) => {
  if (!text.startsWith('/') || text.includes('\0') || Buffer.byteLength(text) > bytes) {
    throw new Error(`an absolute path of at most ${bytes} bytes`);
  }
  return text;
};

export const url =
  (...protocols: string[]) =>
  (text: string) => {
    const expected = `a URL that begins with ${protocols.join(' or ')}`;
    if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol)) throw new Error(expected);
    return text.replace(/\/+$/, '');
  };
