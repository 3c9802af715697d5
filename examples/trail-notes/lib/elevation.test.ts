import assert from 'node:assert/strict';
import { test } from 'node:test';
import { walkingMinutes } from './elevation.ts';

test('a flat walk takes 12 minutes a kilometre', () => assert.equal(walkingMinutes(5000, 0), 60));
test('a climb adds 10 minutes for each 100 metres', () => assert.equal(walkingMinutes(5000, 600), 120));
