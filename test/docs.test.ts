import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KNOBS } from '../controller/config.ts';
import { EGRESS_KNOBS } from '../controller/egress/settings.ts';
import { ERRORS } from '../controller/errors.ts';
import type { Knob } from '../controller/knobs.ts';

const operations = readFileSync('docs/operations.md', 'utf8').split('\n');

describe('docs/operations.md', () => {
  const knobs = [...Object.values<Knob>(KNOBS), ...Object.values<Knob>(EGRESS_KNOBS)];
  test.each(knobs.map((knob) => [knob.variable, knob] as const))('tells of %s', (_name, knob) => {
    const fallback =
      knob.default !== undefined ? `\`${knob.default}\`` : knob.optional ? 'not set' : 'required';
    expect(operations).toContain(`| \`${knob.variable}\` | ${fallback} | ${knob.why} |`);
  });

  test.each(Object.entries(ERRORS))('tells of the error %s', (code, [status, kind, title]) => {
    expect(operations).toContain(`| \`${code}\` | ${status} | ${kind} | ${title} |`);
  });

  test('tells of no setting that does not exist', () => {
    const known = new Set(knobs.map(({ variable }) => variable));
    const named = operations.join('\n').matchAll(/`(MOBVIBE_[A-Z_]+)`/g);
    expect([...named].map((match) => match[1]).filter((name) => !known.has(name!))).toEqual([]);
  });
});

describe('links between pages', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', ...readdirSync('docs').map((name) => `docs/${name}`)];
  test.each(pages)('of %s lead somewhere', (page) => {
    const links = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!);
    const folder = page.includes('/') ? page.slice(0, page.lastIndexOf('/') + 1) : '';
    for (const link of links) expect(() => readFileSync(folder + link), link).not.toThrow();
  });
});
