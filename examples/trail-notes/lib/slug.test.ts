import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slugify } from './slug.ts';

test('words are joined by dashes', () => assert.equal(slugify('  Höhenweg,  Nord! '), 'hohenweg-nord'));
test('nothing is left of nothing', () => assert.equal(slugify('…'), ''));
