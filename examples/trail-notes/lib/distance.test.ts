import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDistance } from './distance.ts';

test('short walks are in metres', () => assert.equal(formatDistance(420, 'kilometres'), '420 m'));
test('long walks are in kilometres', () => assert.equal(formatDistance(12_340, 'kilometres'), '12.3 km'));
test('miles have one decimal', () => assert.equal(formatDistance(16_093.44, 'miles'), '10.0 mi'));
test('less than a mile is in yards', () => assert.equal(formatDistance(91.44, 'miles'), '100 yd'));
test('a negative distance is a mistake', () => assert.throws(() => formatDistance(-1, 'miles'), RangeError));
