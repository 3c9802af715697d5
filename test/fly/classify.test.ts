import { describe, expect, it } from 'vitest';
import { classify, type Diagnosis, type Effect, type Failure } from '../../fly/classify.ts';

const reply = (status: number, text: string, code?: string): Failure => ({
  type: 'reply',
  status,
  text,
  code,
});

const CASES: [what: string, failure: Failure, meaning: Diagnosis][] = [
  // The request
  ['bad JSON type', reply(400, 'json: cannot unmarshal array into Go value'), { kind: 'mistake' }],
  [
    'wait above 60 s',
    reply(400, 'invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]'),
    { kind: 'mistake' },
  ],
  ['bad app name', reply(422, 'Validation failed: Name under 63 chars using numbers'), { kind: 'mistake' }],
  ['a redirect', reply(302, ''), { kind: 'mistake' }],
  ['501 of the stand-in', reply(501, 'not supported here'), { kind: 'mistake', reason: 'unsupported' }],
  // Who asks, and for what
  ['401', reply(401, 'unauthorized'), { kind: 'auth' }],
  ['403: an app elsewhere', reply(403, 'forbidden'), { kind: 'auth' }],
  ['404 of a machine', reply(404, 'machine not found'), { kind: 'not_found' }],
  ['404 of the app', reply(404, 'Could not find App "x"'), { kind: 'not_found', reason: 'app_not_found' }],
  // Conflicts
  [
    '409 unique name',
    reply(
      409,
      'already_exists: unique machine name violation, machine ID 6830d9a1c2 already exists with name "s-1-1"',
    ),
    { kind: 'conflict', reason: 'unique_name', existingMachineId: '6830d9a1c2' },
  ],
  [
    '409 unique name, id missing',
    reply(409, 'already_exists: unique machine name violation'),
    { kind: 'conflict', reason: 'unique_name' },
  ],
  [
    '409 lease',
    reply(409, 'machine ID 6830 lease currently held by abc@tokens.fly.io, expires at 2026-01-01T00:00:00Z'),
    { kind: 'conflict', reason: 'lease_held' },
  ],
  [
    '409 version',
    reply(409, 'aborted: current_version does not match'),
    { kind: 'conflict', reason: 'version_mismatch' },
  ],
  [
    '409 concurrent update is no lack of room',
    reply(409, 'aborted: machine update failed due to concurrent update'),
    { kind: 'conflict', reason: 'concurrent_update' },
  ],
  ['409 "please" is no lease', reply(409, 'please try something else'), { kind: 'conflict' }],
  [
    '422 name taken, by code',
    reply(422, 'Validation failed', 'name_taken'),
    { kind: 'conflict', reason: 'name_taken' },
  ],
  [
    '422 name taken, by words',
    reply(422, 'Validation failed: Name has already been taken'),
    { kind: 'conflict', reason: 'name_taken' },
  ],
  [
    '422 name taken, in a race',
    reply(422, 'uniqueness constraint violated'),
    { kind: 'conflict', reason: 'name_taken' },
  ],
  ['409 name taken', reply(409, 'Name has already been taken'), { kind: 'conflict', reason: 'name_taken' }],
  // Preconditions
  [
    '412 still launching',
    reply(412, "failed_precondition: unable to start machine from current state: 'created'"),
    { kind: 'precondition' },
  ],
  [
    '412 running',
    reply(
      412,
      'failed_precondition: unable to destroy machine, not currently stopped, suspended, failed or created',
    ),
    { kind: 'precondition' },
  ],
  [
    '412 right after a stop',
    reply(412, 'failed_precondition: machine still active, refusing to start'),
    { kind: 'precondition', reason: 'busy' },
  ],
  [
    '412 in an update',
    reply(412, 'failed_precondition: machine getting replaced, refusing to start'),
    { kind: 'precondition', reason: 'busy' },
  ],
  [
    '412 stopping',
    reply(412, "failed_precondition: unable to start machine from current state: 'stopping'"),
    { kind: 'precondition', reason: 'busy' },
  ],
  ['412 volume', reply(412, 'volume already claimed by machine'), { kind: 'precondition' }],
  // Lack of room, in all its dialects
  [
    '422 region',
    reply(422, 'could not find a candidate host', 'insufficient_capacity'),
    { kind: 'capacity', scope: 'region' },
  ],
  [
    '422 region, words only',
    reply(422, 'could not find a candidate host'),
    { kind: 'capacity', scope: 'region' },
  ],
  [
    '412 host of a volume',
    reply(
      412,
      "insufficient resources to create new machine with existing volume id 'vol_1'",
      'volume_placement_capacity',
    ),
    { kind: 'capacity', scope: 'host' },
  ],
  [
    '409 host of the machine',
    reply(
      409,
      'aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host',
    ),
    { kind: 'capacity', scope: 'host' },
  ],
  [
    '409 at create',
    reply(409, 'aborted: insufficient resources available to fulfill request: insufficient memory available'),
    { kind: 'capacity', scope: 'region' },
  ],
  ['409 addresses', reply(409, 'aborted: insufficient IPs available'), { kind: 'capacity', scope: 'host' }],
  ['409 no capacity', reply(409, 'aborted: no capacity'), { kind: 'capacity', scope: 'region' }],
  [
    '400 host closed',
    reply(400, 'deploys to this host are temporarily disabled'),
    { kind: 'capacity', scope: 'host' },
  ],
  ['500 governor', reply(500, 'governor policy blocked start'), { kind: 'capacity', scope: 'host' }],
  [
    '503 region',
    reply(503, 'out of capacity', 'insufficient_capacity'),
    { kind: 'capacity', scope: 'region' },
  ],
  [
    '422 organisation',
    reply(422, 'Your organization has reached its machine limit. Please contact billing@fly.io'),
    { kind: 'quota' },
  ],
  ['429', reply(429, 'rate limit exceeded'), { kind: 'rate' }],
  // Nothing was sent
  ['no connection', { type: 'never_sent' }, { kind: 'platform', reason: 'unreachable' }],
  [
    '408 of a wait',
    reply(408, 'deadline_exceeded: machine failed to reach desired state, started, currently created'),
    { kind: 'platform', reason: 'wait_timeout' },
  ],
];

describe('classify', () => {
  describe.each<Effect>(['none', 'repeatable', 'once'])('with effect %s', (effect) => {
    it.each(CASES)('tells %s', (_what, failure, meaning) => {
      expect(classify(effect, failure)).toEqual(meaning);
    });
  });

  const DOUBTFUL: [what: string, failure: Failure, reason: Diagnosis['reason']][] = [
    ['500', reply(500, 'internal'), undefined],
    ['502 of a proxy', reply(502, 'Bad Gateway'), undefined],
    ['504', reply(504, ''), undefined],
    ['408 towards the host', reply(408, 'deadline_exceeded: context deadline exceeded'), 'timeout'],
    ['a reset', { type: 'no_answer', why: 'disconnected' }, 'disconnected'],
    ['a time-out', { type: 'no_answer', why: 'timeout' }, 'timeout'],
    ['an abort under way', { type: 'no_answer', why: 'aborted' }, 'aborted'],
    ['an unreadable 200', { type: 'bad_reply' }, 'bad_reply'],
  ];

  it.each(DOUBTFUL)('leaves %s in doubt, but not of a read', (_what, failure, reason) => {
    const why = reason === undefined ? {} : { reason };
    expect(classify('none', failure)).toEqual({ kind: 'platform', ...why });
    expect(classify('repeatable', failure)).toEqual({ kind: 'unknown_outcome', ...why });
    expect(classify('once', failure)).toEqual({ kind: 'unknown_outcome', ...why });
  });
});
