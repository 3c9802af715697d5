import { invalidArgument } from './errors.ts';

export interface Region {
  code: string;
  name: string;
  latitude: number;
  longitude: number;
  geo_region: string;
}

/** Fly's regions of 2026-08 (Fly docs, reference/regions). */
export const regions: readonly Region[] = [
  { code: 'ams', name: 'Amsterdam, Netherlands', latitude: 52.37, longitude: 4.9, geo_region: 'europe' },
  { code: 'arn', name: 'Stockholm, Sweden', latitude: 59.33, longitude: 18.07, geo_region: 'europe' },
  { code: 'bom', name: 'Mumbai, India', latitude: 19.08, longitude: 72.88, geo_region: 'asia_pacific' },
  { code: 'cdg', name: 'Paris, France', latitude: 48.86, longitude: 2.35, geo_region: 'europe' },
  { code: 'dfw', name: 'Dallas, Texas (US)', latitude: 32.78, longitude: -96.8, geo_region: 'north_america' },
  { code: 'ewr', name: 'Secaucus, NJ (US)', latitude: 40.79, longitude: -74.06, geo_region: 'north_america' },
  { code: 'fra', name: 'Frankfurt, Germany', latitude: 50.11, longitude: 8.68, geo_region: 'europe' },
  {
    code: 'gru',
    name: 'Sao Paulo, Brazil',
    latitude: -23.55,
    longitude: -46.63,
    geo_region: 'south_america',
  },
  {
    code: 'iad',
    name: 'Ashburn, Virginia (US)',
    latitude: 39.04,
    longitude: -77.49,
    geo_region: 'north_america',
  },
  {
    code: 'jnb',
    name: 'Johannesburg, South Africa',
    latitude: -26.2,
    longitude: 28.05,
    geo_region: 'africa',
  },
  {
    code: 'lax',
    name: 'Los Angeles, California (US)',
    latitude: 34.05,
    longitude: -118.24,
    geo_region: 'north_america',
  },
  { code: 'lhr', name: 'London, United Kingdom', latitude: 51.51, longitude: -0.13, geo_region: 'europe' },
  { code: 'nrt', name: 'Tokyo, Japan', latitude: 35.68, longitude: 139.69, geo_region: 'asia_pacific' },
  {
    code: 'ord',
    name: 'Chicago, Illinois (US)',
    latitude: 41.88,
    longitude: -87.63,
    geo_region: 'north_america',
  },
  {
    code: 'sin',
    name: 'Singapore, Singapore',
    latitude: 1.35,
    longitude: 103.82,
    geo_region: 'asia_pacific',
  },
  {
    code: 'sjc',
    name: 'San Jose, California (US)',
    latitude: 37.34,
    longitude: -121.89,
    geo_region: 'north_america',
  },
  { code: 'syd', name: 'Sydney, Australia', latitude: -33.87, longitude: 151.21, geo_region: 'asia_pacific' },
  { code: 'yyz', name: 'Toronto, Canada', latitude: 43.65, longitude: -79.38, geo_region: 'north_america' },
];

const aliases: Record<string, (region: Region) => boolean> = {
  any: () => true,
  apac: (region) => region.geo_region === 'asia_pacific',
  eu: (region) => region.geo_region === 'europe',
  na: (region) => region.geo_region === 'north_america',
  sa: (region) => region.geo_region === 'south_america',
  us: (region) => region.name.endsWith('(US)'),
  usa: (region) => region.name.endsWith('(US)'),
};

/** Where the caller is, as far as local Fly is concerned. */
export const nearestRegion = 'sjc';

/**
 * The region of a create: a code, an alias or a prioritised list such as `lhr,eu,any`; every local region has room, so the first
 * one wins. Nearest when omitted. Throws 400 for an unknown one.
 */
export function placeInRegion(expression: string | undefined): string {
  if (!expression) return nearestRegion;
  const [first = ''] = expression.split(',').map((part) => part.trim());
  const alias = aliases[first];
  const found = alias
    ? [
        regions.find((region) => region.code === nearestRegion && alias(region)),
        ...regions.filter(alias),
      ].find(Boolean)
    : regions.find((region) => region.code === first);
  if (!found) throw invalidArgument(`region: "${expression}" is not known`);
  return found.code;
}
