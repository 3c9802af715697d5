import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { matching } from './search.ts';

const trails = JSON.parse(readFileSync(new URL('../data/trails.json', import.meta.url), 'utf8'));

test('an empty query finds all', () => assert.equal(matching(trails, ' ').length, trails.length));
test('accents and case do not matter', () =>
  assert.deepEqual(
    matching(trails, 'HOHENWEG').map((trail) => trail.id),
    ['hoehenweg'],
  ));
test('every word must be there', () => assert.deepEqual(matching(trails, 'coast glacier'), []));
