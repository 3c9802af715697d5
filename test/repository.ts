/** `npm run check`: rules about the files of this repository that no compiler or linter knows. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const problems: string[] = [];
const tracked = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' }).split('\0').filter(Boolean);

if (/"resolved": "http/.test(readFileSync('package-lock.json', 'utf8'))) {
  problems.push('package-lock.json names a registry; see CONTRIBUTING.md on adding a dependency');
}

/** Who may import whom (docs/architecture.md). `types` stands for `import type`. */
const FORBIDDEN: { from: RegExp; to: RegExp; types: boolean; why: string }[] = [
  { from: /^fly\//, to: /^(?!fly\/)/, types: true, why: 'fly/ imports nothing of ours' },
  {
    from: /^controller\//,
    to: /^(local|client|image)\//,
    types: true,
    why: 'controller/ is pointed at others by URLs',
  },
  {
    from: /^image\//,
    to: /^(?!image\/|controller\/agents\/(wire|socket-stream|lane-stream)\.ts)/,
    types: true,
    why: 'the agent shares only what is said on the wire and how',
  },
  { from: /^client\//, to: /^(?!client\/)/, types: false, why: 'client/ takes types only from elsewhere' },
  {
    from: /^local\/(fly|supabase|stack)\//,
    to: /^controller\//,
    types: false,
    why: 'a stand-in knows no controller',
  },
  {
    from: /^infra\//,
    to: /^(?!infra\/|fly\/|client\/|image\/bundle\.ts)/,
    types: true,
    why: 'infra/ is pointed at everything but Fly by URLs',
  },
  { from: /^(?!infra\/)/, to: /^infra\//, types: true, why: 'nobody imports infra/' },
  { from: /^(?!torture\/)/, to: /^torture\//, types: true, why: 'nobody imports torture/' },
];
const SOURCE = /^(fly|controller|image|client|infra|local|bench|torture)\/.*\.ts$/;
/** `import … from 'x'`, `export … from 'x'` and `import('x')`, by path or by the package's own name. */
const IMPORTS = [
  /^(?:import|export)\s+(type\s)?[^'"]*?from '(\.{1,2}\/|mobvibe-sandboxes\/)([^']+)'/gms,
  /()\bimport\(\s*'(\.{1,2}\/|mobvibe-sandboxes\/)([^']+)'/g,
];
for (const file of tracked.filter((name) => SOURCE.test(name))) {
  const text = readFileSync(file, 'utf8');
  for (const [, isType, start, rest] of IMPORTS.flatMap((pattern) => [...text.matchAll(pattern)])) {
    const from = start!.startsWith('.') ? `file:///${file}` : 'file:///';
    const target = new URL(start!.startsWith('.') ? start! + rest! : rest!, from).pathname.slice(1);
    for (const rule of FORBIDDEN) {
      if (rule.from.test(file) && rule.to.test(target) && (rule.types || !isType)) {
        problems.push(`${file} imports ${target}: ${rule.why}`);
      }
    }
  }
}

/** Time and chance come in as arguments, so that tests can drive them; this is where they come from. */
const SOURCES = new Set([
  'controller/controller.ts',
  'fly/index.ts',
  'image/agent/main.ts',
  'image/agent/sandbox.ts',
  'image/agent/log.ts',
]);
for (const file of tracked.filter((name) => /^(fly|controller|image)\/.*\.ts$/.test(name))) {
  if (SOURCES.has(file)) continue;
  const call = /(?<!`)\b(Math\.random|Date\.now|performance\.now|new Date\(\))/.exec(
    readFileSync(file, 'utf8'),
  );
  if (call !== null) problems.push(`${file} uses ${call[0]}: time and chance are arguments`);
}

for (const problem of problems) process.stderr.write(`${problem}\n`);
process.exit(problems.length > 0 ? 1 : 0);
