import type { Reporter, TestModule } from 'vitest/node';

/**
 * Names every test that was skipped, with its reason where it gave one, and closes a run with one plain line,
 * `N passed, N failed, N skipped`, so that scripts need no parser for vitest's output.
 */
export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    const skipped: string[] = [];
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      for (const test of tests) {
        const result = test.result();
        if (result.state !== 'pending') count[result.state] += 1;
        if (result.state === 'skipped') {
          skipped.push(
            `skipped: ${module.relativeModuleId} > ${test.fullName}${result.note ? `: ${result.note}` : ''}`,
          );
        }
      }
      // A file that could not even be loaded has no tests, yet it failed.
      if (tests.length === 0 && !module.ok()) count.failed += 1;
    }
    count.failed += errors.length;
    process.once('exit', () => {
      for (const line of skipped) process.stdout.write(`${line}\n`);
      process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
    });
  }
}
