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
      // A file that could not be loaded, or a hook that failed: its tests were not run, and count as skipped alone.
      count.failed += module.errors().length;
      for (const suite of module.children.allSuites()) count.failed += suite.errors().length;
    }
    count.failed += errors.length;
    process.once('exit', () => {
      for (const line of skipped) process.stdout.write(`${line}\n`);
      process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
    });
  }
}
