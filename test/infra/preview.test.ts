import { readFileSync } from 'node:fs';
import * as pulumi from '@pulumi/pulumi';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readStackConfig } from '../../infra/config.ts';
import { physicalName } from '../../infra/names.ts';
import { databaseOf, refuseSharedDatabase } from '../../infra/preview/databases.ts';
import { expiryAfter, lifeOf, roughly } from '../../infra/preview/expiry.ts';
import { inOrderOfDeletion, isPreview, previewOfApp, stackOf } from '../../infra/preview/names.ts';
import { keepsOrphans, orphansIn } from '../../infra/preview/orphans.ts';
import { plainSettings, secretSettings } from '../../infra/preview/settings.ts';

const NOW = new Date('2026-11-25T12:00:00Z');

describe('names', () => {
  test.each([
    [{ pr: 123 }, 'pr-123'],
    [{ branch: 'feature/x' }, 'br-feature-x'],
    [{ branch: 'fix-login' }, 'br-fix-login'],
    [{ branch: 'Fix_Login' }, 'br-fix-login-2ec81b'],
    [{ branch: 'fix--login' }, 'br-fix-login-1779bf'],
    [{ branch: '日本' }, 'br-cf2abf'],
    [{ branch: `renovate/${'very-'.repeat(10)}long` }, 'br-renovate-very-very-ve-6606ec'],
  ])('%j is the stack %s', (source, stack) => {
    expect(stackOf(source)).toBe(stack);
  });

  test.each([{ pr: 0 }, { pr: 1.5 }, { branch: '' }])('%j is refused', (source) => {
    expect(() => stackOf(source)).toThrow(/--(pr|branch) is ".*"/);
  });

  test('every branch makes a stack that the reaper knows and whose apps Fly takes; two of them only differ by slashes', () => {
    const branch = fc.string({ minLength: 1, maxLength: 80, unit: fc.constantFrom(...'abXY19-_/.é') });
    fc.assert(
      fc.property(branch, branch, (one, other) => {
        const stack = stackOf({ branch: one });
        expect(isPreview(stack)).toBe(true);
        expect(stack.length).toBeLessThanOrEqual(31);
        const app = physicalName({ project: 'mobvibe', stack }, 'cell-12');
        expect(previewOfApp('mobvibe', app)).toBe(stack);
        if (one.replaceAll('/', '-') !== other.replaceAll('/', '-')) {
          expect(stackOf({ branch: other })).not.toBe(stack);
        }
      }),
    );
  });

  test.each([
    'mobvibe-prod-ctl',
    'mobvibe-prod-cell-1',
    'mobvibe-local-ctl',
    'mobvibe-pr-7',
    'mobvibe-pr-7-web',
    'mobvibe-pr-7-cell-0',
    'mobvibe-pr-07-ctl',
    'mobvibe-pr-x-ctl',
    'mobvibe-br--ctl',
    'other-pr-7-ctl',
    'another-pr-7-ctl',
    'pr-7-ctl',
    'mobvibe-staging-pr-7-ctl',
  ])('the app %s is of no preview', (app) => {
    expect(previewOfApp('mobvibe', app)).toBeUndefined();
  });

  test('a stack whose name ends like a part keeps its apps', () => {
    expect(previewOfApp('mobvibe', 'mobvibe-br-x-cell-1-ctl')).toBe('br-x-cell-1');
    expect(previewOfApp('mobvibe', 'mobvibe-br-x-cell-1')).toBe('br-x');
  });

  test.each(['prod', 'preview', 'local', 'pr', 'br-', 'pr-1a', `br-${'x'.repeat(40)}`])(
    'the stack %s is no preview',
    (stack) => {
      expect(isPreview(stack)).toBe(false);
    },
  );

  test('a controller goes before the cell that it would fill', () => {
    const apps = ['m-pr-1-cell-1', 'm-pr-1-egress', 'm-pr-1-ctl'];
    expect(inOrderOfDeletion(apps)).toEqual(['m-pr-1-ctl', 'm-pr-1-cell-1', 'm-pr-1-egress']);
  });
});

describe('life', () => {
  test('whole seconds from now', () => {
    expect(expiryAfter(48, NOW)).toBe('2026-11-27T12:00:00Z');
    expect(expiryAfter(0.5, NOW)).toBe('2026-11-25T12:30:00Z');
  });

  test.each([0, -1, Number.NaN, 337])('%d hours are refused', (hours) => {
    expect(() => expiryAfter(hours, NOW)).toThrow(`--ttl-hours is "${hours}"`);
  });

  test.each([
    ['2026-11-25T12:00:01Z', 'alive'],
    ['2026-11-25T12:00:00Z', 'expired'],
    ['2020-01-01T00:00:00Z', 'expired'],
    [undefined, 'unreadable'],
    ['', 'unreadable'],
    ['soon', 'unreadable'],
    // Date.parse takes these.
    ['1', 'unreadable'],
    ['2026-11-25T99:00:00Z', 'unreadable'],
  ])('%s is %s', (tag, life) => {
    expect(lifeOf(tag, NOW)).toBe(life);
  });

  test.each([
    [0, '0 min'],
    [5_400_000, '2 h'],
    [172_000_000, '48 h'],
    [432_000_000, '5 d'],
  ])('%d ms are about %s', (ms, words) => {
    expect(roughly(ms)).toBe(words);
  });
});

describe('databases', () => {
  const REF = 'abcdefghijklmnopqrst';
  const PRODUCTION = `https://${REF}.supabase.co`;
  const own = {
    supabaseUrl: 'https://zzzzzzzzzzzzzzzzzzzz.supabase.co',
    dbUrl: 'postgresql://postgres:x@db.zzzzzzzzzzzzzzzzzzzz.supabase.co:5432/postgres',
    production: [PRODUCTION],
    others: [{ stack: 'pr-1', database: databaseOf('http://127.0.0.1:54321') }],
  };

  test('one of its own is taken, also where nothing is known of production', () => {
    refuseSharedDatabase(own);
    refuseSharedDatabase({ ...own, production: [], others: [] });
  });

  test.each([
    [
      'production’s URL',
      { supabaseUrl: `${PRODUCTION.toUpperCase().replace('HTTPS', 'https')}/` },
      "production's",
    ],
    ['production’s database', { dbUrl: `postgresql://p:x@db.${REF}.supabase.co:5432/postgres` }, REF],
    [
      'production’s pooler',
      { dbUrl: `postgresql://postgres.${REF}:x@aws-0.pooler.supabase.com/postgres` },
      REF,
    ],
    ['another preview’s', { supabaseUrl: 'http://127.0.0.1:54321/' }, 'pr-1'],
  ])('%s is refused, the connection string is not shown', (_what, change, words) => {
    const attempt = () => refuseSharedDatabase({ ...own, ...change });
    expect(attempt).toThrow(words);
    expect(attempt).not.toThrow('postgresql://');
  });
});

describe('settings', () => {
  const template = { 'mobvibe:cells': 1, 'mobvibe:supabaseUrl': 'https://template' };

  test('the template, over it the environment, over that --set', () => {
    const env = { SUPABASE_URL: 'https://env', FLY_ORG: 'env-org', PATH: '/bin' };
    expect(plainSettings('mobvibe', template, env, ['flyOrg=set-org', 'tokenRotation=a=b'])).toEqual({
      cells: '1',
      supabaseUrl: 'https://env',
      flyOrg: 'set-org',
      tokenRotation: 'a=b',
    });
  });

  test.each([
    [{ 'mobvibe:supabaseDbUrl': 'x' }, [], 'mobvibe:supabaseDbUrl'],
    [{ 'mobvibe:expiresAt': '2026-01-01' }, [], 'mobvibe:expiresAt'],
    [{ 'mobvibe:key': { secure: 'v1:x' } }, [], 'mobvibe:key'],
    [{ 'aws:region': 'x' }, [], 'aws:region'],
    [{}, ['supabaseServiceRoleKey=x'], 'SUPABASE_SERVICE_ROLE_KEY'],
    [{}, ['expiresAt=x'], '--ttl-hours'],
    [{}, ['cells'], '--set is "cells"'],
  ])('%j with --set %j is refused', (file, set, words) => {
    expect(() => plainSettings('mobvibe', file, {}, set)).toThrow(words);
  });

  test('secrets come from variables; all that are missing are named', () => {
    expect(() => secretSettings({})).toThrow('not set: SUPABASE_SERVICE_ROLE_KEY, SUPABASE_DB_URL');
    const env = { SUPABASE_SERVICE_ROLE_KEY: 'k', SUPABASE_DB_URL: 'u' };
    expect(secretSettings(env)).toEqual({ supabaseServiceRoleKey: 'k', supabaseDbUrl: 'u' });
  });
});

describe('orphans', () => {
  const app = (stack: string, part = 'ctl') => ({ app: `mobvibe-${stack}-${part}`, stack });
  const one = { apps: [app('pr-1'), app('pr-2'), app('pr-2', 'img')], stacks: ['prod', 'pr-1'] };

  test('what no stack owns, in both looks', () => {
    expect(orphansIn([one, one])).toEqual(new Map([['pr-2', ['mobvibe-pr-2-ctl', 'mobvibe-pr-2-img']]]));
    // Its stack has come, or it has gone by itself.
    expect(orphansIn([one, { ...one, stacks: ['pr-2'] }])).toEqual(new Map());
    expect(orphansIn([one, { ...one, apps: [app('pr-2', 'img')] }]).get('pr-2')).toEqual([
      'mobvibe-pr-2-img',
    ]);
    expect(orphansIn([])).toEqual(new Map());
  });

  const AGE = 3_600_000;
  const ago = (ms: number) => NOW.getTime() - ms;
  test.each([
    [[ago(AGE)], AGE, undefined],
    [[ago(AGE - 1)], AGE, 'too young'],
    [[ago(9 * AGE), ago(1)], AGE, 'too young'],
    [[ago(9 * AGE), undefined], AGE, undefined],
    [[undefined], AGE, 'no date'],
    [[undefined], 0, undefined],
    [[ago(1)], 0, undefined],
  ])('of %j, at least %d ms old: %s', (youngest, least, why) => {
    expect(keepsOrphans(youngest, least, NOW)).toBe(why);
  });
});

describe('the settings that are kept with the code', () => {
  const REQUIRED = {
    'mobvibe:flyOrg': 'acme',
    'mobvibe:supabaseUrl': 'https://abc.supabase.co',
    'mobvibe:supabaseServiceRoleKey': 'k',
    'mobvibe:supabaseDbUrl': 'u',
  };
  const read = (stack: string) => {
    const { config, ...rest } = parse(readFileSync(`Pulumi.${stack}.yaml`, 'utf8'));
    expect(rest).toEqual({});
    pulumi.runtime.setAllConfig({ ...REQUIRED, ...config });
    return { config, settings: readStackConfig(new pulumi.Config('mobvibe')) };
  };

  test.each(['prod', 'preview'])(
    'Pulumi.%s.yaml holds known keys as text, no secret, and is accepted',
    (stack) => {
      const { config } = read(stack);
      for (const [key, value] of Object.entries(config)) {
        expect(typeof value, key).toBe('string');
        expect(readFileSync('docs/setup.md', 'utf8'), key).toContain(`\`${key.replace('mobvibe:', '')}\``);
        expect(Object.keys(REQUIRED)).not.toContain(key);
      }
    },
  );

  test('production is protected; a preview is not, and is nowhere larger', () => {
    const { settings: prod } = read('prod');
    const { settings: preview } = read('preview');
    expect([prod.protect, preview.protect]).toEqual([true, false]);
    for (const key of ['cpus', 'memoryMb', 'maxAgeMinutes', 'orphanMinutes'] as const) {
      expect(preview.sandbox[key]).toBeLessThanOrEqual(prod.sandbox[key]);
    }
    for (const key of ['cpus', 'memoryMb', 'jobsAtOnce', 'machines'] as const) {
      expect(preview.controller[key]).toBeLessThanOrEqual(prod.controller[key]);
    }
  });
});
