import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { agentToken, verifyAgentToken } from '../../controller/agents/token.ts';

const SECRET = 'a-secret-of-at-least-32-characters';
const TOKEN = agentToken(SECRET, 's-one-1');

describe('agent tokens', () => {
  it('are the same for the same sandbox and secret, and say which sandbox', () => {
    expect(agentToken(SECRET, 's-one-1')).toBe(TOKEN);
    expect(verifyAgentToken(SECRET, TOKEN)).toBe('s-one-1');
  });

  it.each([
    ['of another secret', agentToken(`${SECRET}!`, 's-one-1')],
    ['of another sandbox', TOKEN.replace('s-one-1', 's-one-2')],
    ['without a MAC', 's-one-1'],
    ['with a short MAC', TOKEN.slice(0, -1)],
    ['with a long MAC', `${TOKEN}0`],
    ['in upper case', TOKEN.toUpperCase()],
    ['of a name that is none of ours', agentToken(SECRET, 'one')],
    ['that is empty', ''],
  ])('%s are refused', (_what, token) => {
    expect(verifyAgentToken(SECRET, token)).toBeUndefined();
  });

  it('are refused with any one character changed', () => {
    fc.assert(
      fc.property(fc.nat(TOKEN.length - 1), fc.constantFrom(...'0123456789abcdefs-.'), (at, char) => {
        fc.pre(TOKEN[at] !== char);
        expect(verifyAgentToken(SECRET, TOKEN.slice(0, at) + char + TOKEN.slice(at + 1))).toBeUndefined();
      }),
    );
  });
});
