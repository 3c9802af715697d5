import { describe, expect, test } from 'vitest';
import { checkSession, shortest } from '../../torture/checker/check.ts';
import type { SeenMachine } from '../../torture/world/ledger.ts';
import { Story } from './story.ts';

const kinds = (story: Story, machines: SeenMachine[] = []) =>
  checkSession(story, machines).map(({ kind, subject }) => `${kind} ${subject}`);

const story = () => new Story().ready(1);
/** Two sandboxes with a stop between them. */
const reopened = (work: (story: Story) => Story) => work(story()).stopping(1).gone(1).ready(2);
/** The same, but the first one's machine is lost. */
const afterLoss = (work: (story: Story) => Story) => work(story()).gone(1, 'machine_lost').ready(2);

describe('lines of execs', () => {
  test('each once and in order is right', () => {
    expect(kinds(reopened((s) => s.exec('x1', 1).exec('x2', 1)).look(2, { log: ['x1', 'x2'] }))).toEqual([]);
  });

  test('one that is missing after a stop is lost, also when it was acknowledged during the stop', () => {
    expect(kinds(reopened((s) => s.exec('x1', 1)).look(2, {}))).toEqual(['lost_exec x1']);
    const during = story().stopping(1).exec('x1', 1).gone(1).ready(2).look(2, {});
    expect(kinds(during)).toEqual(['lost_exec x1']);
  });

  test('one that is missing in the very sandbox that it ran in is lost', () => {
    expect(kinds(story().exec('x1', 1).look(1, {}))).toEqual(['lost_exec x1']);
  });

  test('what was announced as lost may be missing, what was saved before may not', () => {
    const work = (s: Story) => s.exec('x1', 1).add({ kind: 'save', outcome: 'ack' }).exec('x2', 1);
    expect(kinds(afterLoss(work).look(2, { log: ['x1'] }))).toEqual([]);
    expect(kinds(afterLoss(work).look(2, {}))).toEqual(['lost_exec x1']);
    // Nobody knows of a save that was not answered.
    const unsaved = (s: Story) => s.exec('x1', 1).add({ kind: 'save', outcome: 'maybe' });
    expect(kinds(afterLoss(unsaved).look(2, {}))).toEqual([]);
  });

  test('a loss does not reach back into sandboxes before it', () => {
    const told = reopened((s) => s.exec('x1', 1))
      .gone(2, 'machine_lost')
      .ready(3)
      .look(3, {});
    expect(kinds(told)).toEqual(['lost_exec x1']);
  });

  test('what came back after a loss has to stay', () => {
    const told = afterLoss((s) => s.exec('x1', 1))
      .look(2, { log: ['x1'] })
      .stopping(2)
      .gone(2)
      .ready(3);
    expect(kinds(told.look(3, { log: ['x1'] }))).toEqual([]);
    const gone = afterLoss((s) => s.exec('x1', 1))
      .look(2, { log: ['x1'] })
      .stopping(2)
      .gone(2)
      .ready(3);
    expect(kinds(gone.look(3, {}))).toEqual(['lost_exec x1']);
  });

  test('a later line that survived a loss without an earlier one shows a hole', () => {
    const told = afterLoss((s) => s.exec('x1', 1).exec('x2', 1)).look(2, { log: ['x2'] });
    expect(kinds(told)).toEqual(['hole x1']);
  });

  test('twice is twice: in the log, and by two answers', () => {
    const inLog = reopened((s) => s.exec('x1', 1)).look(2, { log: ['x1', 'x1'] });
    expect(kinds(inLog)).toEqual(['ran_twice x1']);
    const byAnswers = afterLoss((s) => s.exec('x1', 1))
      .exec('x1', 2)
      .look(2, { log: ['x1'] });
    expect(kinds(byAnswers)).toEqual(['ran_twice x1']);
    const ended = { result: 'signaled SIGTERM stop' };
    const after = reopened((s) => s.exec('x1', 1, ended))
      .exec('x1', 2)
      .look(2, { log: ['x1'] });
    expect(kinds(after)).toEqual(['ran_twice x1']);
    // Told again of what ran before.
    const known = reopened((s) => s.exec('x1', 1))
      .exec('x1', 1)
      .look(2, { log: ['x1'] });
    expect(kinds(known)).toEqual([]);
  });

  test('an id with another command must not run', () => {
    const told = reopened((s) => s.exec('x1', 1)).look(2, { log: ['x1', '!x1'] });
    expect(kinds(told)).toEqual(['ran_other_command x1']);
  });

  test('one that may have run may be there, once; one that was refused may not', () => {
    const maybe = { outcome: 'maybe', incarnation: undefined, result: undefined };
    const refused = { ...maybe, outcome: 'refused' };
    expect(kinds(story().exec('x1', 1, maybe).look(1, {}))).toEqual([]);
    expect(
      kinds(
        story()
          .exec('x1', 1, maybe)
          .look(1, { log: ['x1'] }),
      ),
    ).toEqual([]);
    expect(
      kinds(
        story()
          .exec('x1', 1, refused)
          .look(1, { log: ['x1'] }),
      ),
    ).toEqual(['ran_refused x1']);
    // Refused once, and done when it was asked again.
    const again = story().exec('x1', 1, refused).exec('x1', 1);
    expect(kinds(again.look(1, { log: ['x1'] }))).toEqual([]);
  });

  test('order counts between those that did not overlap', () => {
    const two = () => story().exec('x1', 1).exec('x2', 1);
    expect(kinds(two().look(1, { log: ['x2', 'x1'] }))).toEqual(['wrong_order x1']);
    const side = story().exec('x1', 1).lasting(5_000).exec('x2', 1);
    side
      .add({ kind: 'save', outcome: 'ack' })
      .add({ kind: 'save', outcome: 'ack' })
      .add({ kind: 'save', outcome: 'ack' });
    side.add({ kind: 'save', outcome: 'ack' }).add({ kind: 'save', outcome: 'ack' });
    expect(kinds(side.look(1, { log: ['x2', 'x1'] }))).toEqual([]);
  });

  test('a line that nobody wrote, and an exit code that only the platform can have made', () => {
    expect(kinds(story().look(1, { log: ['?'] }))).toEqual(['strange_line ?']);
    expect(kinds(story().exec('x1', 1, { result: 'exited 1' }))).toEqual(['odd_result x1']);
    expect(kinds(story().exec('x1', 1, { result: 'signaled SIGTERM stop' }))).toEqual([]);
  });
});

describe('files', () => {
  const write = (value: string | null, outcome: 'ack' | 'maybe' | 'refused' = 'ack') =>
    ({ kind: 'write', path: 'f/1', value, outcome }) as const;
  const files = { 'f/1': 'a' };

  test('the last write counts, before and after a stop', () => {
    const told = (s: Story) => s.add(write('b')).add(write('a'));
    expect(kinds(told(story()).look(1, { files }))).toEqual([]);
    expect(kinds(reopened(told).look(2, { files }))).toEqual([]);
    expect(kinds(reopened(told).look(2, { files: { 'f/1': 'b' } }))).toEqual(['lost_write f/1']);
    expect(kinds(reopened(told).look(2, {}))).toEqual(['lost_write f/1']);
  });

  test('a removal is a write', () => {
    const told = (s: Story) => s.add(write('a')).add(write(null));
    expect(kinds(reopened(told).look(2, {}))).toEqual([]);
    expect(kinds(reopened(told).look(2, { files }))).toEqual(['lost_write f/1']);
  });

  test('a write that nobody answered may be there or not, even later than the next one', () => {
    const told = () => story().add(write('b')).add(write('a', 'maybe'));
    expect(kinds(told().look(1, { files }))).toEqual([]);
    expect(kinds(told().look(1, { files: { 'f/1': 'b' } }))).toEqual([]);
    const late = story().add(write('a', 'maybe')).add(write('b'));
    expect(kinds(late.look(1, { files }))).toEqual([]);
    // Not across sandboxes: what was under way has ended with the first.
    const over = reopened((s) => s.add(write('a', 'maybe'))).add(write('b'));
    expect(kinds(over.look(2, { files }))).toEqual(['lost_write f/1']);
  });

  test('one that was refused must not be there', () => {
    expect(kinds(story().add(write('a', 'refused')).look(1, { files }))).toEqual(['wrong_content f/1']);
  });

  test('after a loss the one before the save, or any later one', () => {
    const work = (s: Story) => s.add(write('b')).add({ kind: 'save', outcome: 'ack' }).add(write('a'));
    expect(kinds(afterLoss(work).look(2, { files }))).toEqual([]);
    expect(kinds(afterLoss(work).look(2, { files: { 'f/1': 'b' } }))).toEqual([]);
    expect(kinds(afterLoss(work).look(2, {}))).toEqual(['lost_write f/1']);
  });

  test('half an input may be there of an exec that did not end, not of one that did', () => {
    const part = { ...write('a'), partial: true };
    expect(
      kinds(
        story()
          .add({ ...part, outcome: 'maybe' })
          .look(1, { files: { 'f/1': 'half' } }),
      ),
    ).toEqual([]);
    expect(
      kinds(
        story()
          .add(part)
          .look(1, { files: { 'f/1': 'half' } }),
      ),
    ).toEqual(['lost_write f/1']);
  });

  test('a file that nobody wrote', () => {
    expect(kinds(story().look(1, { files }))).toEqual(['wrong_content f/1']);
  });
});

describe('jobs', () => {
  const queued = (s: Story, outcome: 'ack' | 'refused' = 'ack') =>
    s.add({ kind: 'job', id: 'j1', lines: ['j1'], outcome });
  const ended = (s: Story, status: string) =>
    s.add({ kind: 'job_end', id: 'j1', status, result: 'exited 0', outcome: 'ack' });

  test('one that succeeded has its line, once; one that did not may have', () => {
    const done = (status: string) => reopened((s) => ended(queued(s), status));
    expect(kinds(done('succeeded').look(2, { jobs: ['j1'] }))).toEqual([]);
    expect(kinds(done('succeeded').look(2, {}))).toEqual(['lost_job j1']);
    expect(kinds(done('canceled').look(2, {}))).toEqual([]);
    expect(kinds(done('succeeded').look(2, { jobs: ['j1', 'j1'] }))).toEqual(['ran_twice j1']);
  });

  test('a refused one must not run', () => {
    expect(kinds(queued(story(), 'refused').look(1, { jobs: ['j1'] }))).toEqual(['ran_refused j1']);
  });
});

describe('what programs were writing', () => {
  test('is whole, and no less than before', () => {
    const told = () => reopened((s) => s.look(1, { sqlite: { count: 9 }, git: { count: 3 } }));
    expect(kinds(told().look(2, { sqlite: { count: 9 }, git: { count: 4 } }))).toEqual([]);
    expect(kinds(told().look(2, { sqlite: { count: 8 }, git: { count: 3 } }))).toEqual(['lost_rows sqlite']);
    expect(kinds(told().look(2, { sqlite: { count: 9 } }))).toEqual(['lost_commits git']);
    const torn = { sqlite: { count: 0, problem: 'malformed' }, git: { count: 0, problem: 'bad object' } };
    expect(kinds(told().look(2, torn))).toEqual(['torn_sqlite sqlite', 'torn_git git']);
  });

  test('after a loss it may be less, and has to be whole all the same', () => {
    const told = () => afterLoss((s) => s.look(1, { sqlite: { count: 9 } }));
    expect(kinds(told().look(2, { sqlite: { count: 2 } }))).toEqual([]);
    expect(kinds(told().look(2, { sqlite: { count: 2, problem: 'torn' } }))).toEqual(['torn_sqlite sqlite']);
  });
});

describe('stops and losses', () => {
  const machine = (events: Partial<SeenMachine['events'][0]>[]): SeenMachine[] => [
    {
      ...{ id: 'm1', app: 'a', name: 's-s-1', state: 'started', created_at: '' },
      events: events.map((event) => ({
        id: '',
        status: '',
        source: 'flyd',
        type: 'exit',
        timestamp: 0,
        ...event,
      })),
    },
  ];

  test('a stop that says stopped has lost nothing', () => {
    const told = story().stopping(1).gone(1, 'machine_lost');
    expect(kinds(told)).toEqual([]);
    told.add({ kind: 'stop', outcome: 'ack', status: 'stopped', incarnation: 1 });
    expect(kinds(told)).toEqual(['stop_lied s-s-1']);
  });

  test('the only copy is given up when someone said so, not because a save fails', () => {
    expect(kinds(story().stopping(1).gone(1, 'save_failed'))).toEqual(['gave_up_save s-s-1']);
    const wanted = story().add({
      kind: 'stop',
      outcome: 'ack',
      status: 'stopping',
      incarnation: 1,
      discard: true,
    });
    expect(kinds(wanted.stopping(1).gone(1, 'save_failed'))).toEqual([]);
    // Said of one sandbox, it is not said of the next.
    expect(kinds(wanted.ready(2).stopping(2).gone(2, 'save_failed'))).toEqual(['gave_up_save s-s-2']);
  });

  test('a machine is lost when it had ended, and not before', () => {
    const told = () => story().gone(1, 'machine_lost');
    const { now } = told();
    expect(kinds(told(), machine([{ timestamp: now - 3_000 }]))).toEqual([]);
    expect(kinds(told(), machine([{ timestamp: now + 60_000 }]))).toEqual(['false_loss s-s-1']);
    expect(kinds(told(), machine([{ type: 'start' }]))).toEqual(['false_loss s-s-1']);
    expect(kinds(story().gone(1, 'session_start_timeout'))).toEqual(['false_loss s-s-1']);
  });

  test('nobody is stopped unasked', () => {
    const data = { sandbox: { state: 'stopping' } };
    expect(kinds(story().event('session.stopping', 1, data, 'requested', 'api:k'))).toEqual([
      'unasked_stop s-s-1',
    ]);
    expect(kinds(story().stopping(1).event('session.stopping', 1, data, 'max_age'))).toEqual([
      'unasked_stop s-s-1',
    ]);
  });

  test('work after a stop that was cancelled belongs to the same sandbox', () => {
    const told = story().exec('x1', 1).stopping(1);
    told.event('session.stop_canceled', 1, { sandbox: { state: 'ready' }, session: { status: 'ready' } });
    expect(kinds(told.exec('x2', 1).look(1, { log: ['x1', 'x2'] }))).toEqual([]);
  });
});

test('the shortest history keeps what shows the failure and leaves out the rest', () => {
  const told = reopened((s) => {
    for (let n = 1; n <= 20; n++) s.exec(`x${n}`, 1);
    return s;
  }).look(2, { log: Array.from({ length: 19 }, (_, n) => `x${n + 1}`) });
  const [failure] = checkSession(told);
  expect(failure).toMatchObject({ kind: 'lost_exec', subject: 'x20', session: 's' });
  const short = shortest(told, failure!);
  expect(short.map(({ kind }) => kind)).toEqual(['exec', 'observe']);
  expect(short[0]).toMatchObject({ id: 'x20' });
});
