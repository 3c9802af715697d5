import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { AgentLink, AgentRequest } from '../../controller/agents/link.ts';
import { longAnswer } from '../../controller/files/long-answer.ts';

/** An agent whose answer the test writes. */
function agent(status = 200, type = 'application/x-ndjson') {
  const body = new PassThrough();
  const asked: AgentRequest[] = [];
  const link = {
    request: async (request: AgentRequest) => {
      asked.push(request);
      return {
        status,
        headers: { 'content-type': type },
        body,
        json: async () => JSON.parse(String(body.read())),
      };
    },
  } as unknown as AgentLink;
  const write = (line: unknown) => body.write(`${JSON.stringify(line)}\n`);
  return { link, body, asked, write };
}

describe('a long answer', () => {
  it('is its result, after any number of lines of progress', async () => {
    const { link, write, asked } = agent();
    const answer = longAnswer(link, '/workspace/pack', { base: 1 });
    write({ type: 'progress', bytes: 10 });
    write({ type: 'progress', bytes: 20, files: 2 });
    write({ type: 'result', result: { changed: false } });
    expect(await answer).toEqual({ changed: false });
    expect(asked).toMatchObject([{ method: 'POST', path: '/workspace/pack', body: '{"base":1}' }]);
  });

  it('takes as long as there is progress, and no longer than the silence allowed after that', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { link, write, body } = agent();
      const answer = longAnswer(link, '/workspace/upload', {}, { silenceMs: 60_000 });
      const ended = answer.then(String, (error: unknown) => error);
      for (let lines = 1; lines <= 30; lines++) {
        write({ type: 'progress', bytes: lines });
        await turn();
        vi.advanceTimersByTime(59_000);
        expect(body.destroyed).toBe(false);
      }
      vi.advanceTimersByTime(1_000);
      expect(await ended).toMatchObject({ code: 'agent_lost', detail: expect.stringContaining('60000 ms') });
    } finally {
      vi.useRealTimers();
    }
  });

  it('is the error of the agent, with the object at fault and what storage answered', async () => {
    const { link, write } = agent();
    const answer = longAnswer(link, '/workspace/upload', {});
    write({
      type: 'error',
      error: { code: 'storage_full', detail: 'too large', object: 'abc', status: 413 },
    });
    await expect(answer).rejects.toMatchObject({ code: 'storage_full', object: 'abc', answered: 413 });
  });

  it('that ends or breaks without a result is no result', async () => {
    const ended = agent();
    const answer = longAnswer(ended.link, '/workspace/pack', {});
    ended.write({ type: 'progress', bytes: 1 });
    ended.body.end();
    await expect(answer).rejects.toMatchObject({ code: 'agent_lost' });
  });

  it('may be an error before it began, with a code that is known here or not', async () => {
    const { link, body } = agent(409, 'application/json');
    body.write(JSON.stringify({ code: 'session_stopping', detail: 'sealed' }));
    await expect(longAnswer(link, '/workspace/restore', {})).rejects.toMatchObject({
      code: 'session_stopping',
    });
    const odd = agent(418, 'application/json');
    odd.body.write(JSON.stringify({ code: 'teapot' }));
    await expect(longAnswer(odd.link, '/workspace/restore', {})).rejects.toMatchObject({ code: 'internal' });
  });

  it('of an agent from before there were any is the plain result', async () => {
    const { link, body } = agent(200, 'application/json');
    body.write(JSON.stringify({ version: 3, files: 1, bytes: 2 }));
    expect(await longAnswer(link, '/workspace/restore', {})).toEqual({ version: 3, files: 1, bytes: 2 });
  });
});
