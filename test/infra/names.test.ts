import { describe, expect, test } from 'vitest';
import { joinTokens } from '../../infra/cells.ts';
import { publicUrl } from '../../infra/controller.ts';
import { physicalName } from '../../infra/names.ts';
import { hostAndPort } from '../../infra/platform.ts';

describe('names', () => {
  test('a physical name has project, stack and part', () => {
    expect(physicalName({ project: 'mobvibe', stack: 'pr-7' }, 'cell-1')).toBe('mobvibe-pr-7-cell-1');
  });

  test.each(['Prod', 'a_b', 'a--b', '-a', 'x'.repeat(60)])(
    'the stack %s makes no name that Fly takes',
    (stack) => {
      expect(() => physicalName({ project: 'mobvibe', stack }, 'ctl')).toThrow(stack);
    },
  );
});

test('tokens of several apps are one list', () => {
  expect(joinTokens(['FlyV1 fm2_a,fm2_b', 'FlyV1 fm2_c'])).toBe('FlyV1 fm2_a,fm2_b,fm2_c');
});

test('the address of a controller', () => {
  expect(publicUrl('https://{app}.fly.dev', 'x-ctl', '')).toBe('https://x-ctl.fly.dev');
  expect(publicUrl('http://{address}:8080', 'x-ctl', '127.64.0.1')).toBe('http://127.64.0.1:8080');
});

test.each([
  ['https://abc.supabase.co', 'abc.supabase.co:443'],
  ['http://127.0.0.1:54321/x', '127.0.0.1:54321'],
  ['http://localhost', 'localhost:80'],
])('%s is %s to the proxy', (url, expected) => {
  expect(hostAndPort(url)).toBe(expected);
});
