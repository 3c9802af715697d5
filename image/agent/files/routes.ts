import { renameSync, symlinkSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { Fault } from '../fault.ts';
import type { Call } from '../http/call.ts';
import { Lines } from '../http/lines.ts';
import type { Handler, Router } from '../http/router.ts';
import type { Gate } from '../seal/gate.ts';
import type { Owner } from '../user/side.ts';
import type { Beneath, Place } from './beneath.ts';
import { makeDirectory, removeOne, removeTree } from './change.ts';
import { fileFault } from './fault.ts';
import { list } from './list.ts';
import { openFile } from './read.ts';
import { sendFile } from './send.ts';
import { statAt } from './stat.ts';
import { until } from './until.ts';
import { writeFile } from './write.ts';

const YIELD_EVERY = 64;

/** Reads at any time; changes pass the gate, each one as briefly as it can: a body is received outside. */
export function fileRoutes(router: Router, tree: Beneath, owner: Owner | undefined, gate: Gate): void {
  const uid = owner?.uid ?? process.getuid!();
  const makeParent = (at: string) => makeDirectory(at, owner);
  router
    .on(
      'GET',
      '/files',
      faulty(async (call) => {
        const path = queryPath(call);
        using place = tree.find(path, { follow: true });
        await using file = await openFile(place.at, path, uid);
        await sendFile(call, file, place.path);
      }),
    )
    .on(
      'PUT',
      '/files',
      faulty(async (call) => {
        const path = queryPath(call);
        const mode = checkMode(call.query.get('mode'));
        const { place, sealed } = await gate.admit((still) => ({
          place: named(tree.find(path, { follow: true, makeDirectory: makeParent })),
          sealed: still.signal,
        }));
        using target = place;
        const stat = await writeFile(target, until(sealed, call.body()), {
          mode,
          owner,
          commit: (put) =>
            gate.admit((still) => {
              call.checkNotReset();
              still();
              put();
            }),
        });
        call.reply(200, stat);
      }),
    )
    .on(
      'DELETE',
      '/files',
      faulty(async (call) => {
        await gate.admit(async (still) => {
          using place = named(tree.find(queryPath(call)));
          still();
          if (call.flag('recursive')) await removeTree(place.at);
          else removeOne(place.at);
        });
        call.reply(204);
      }),
    )
    .on(
      'GET',
      '/files/stat',
      faulty((call) => {
        using place = tree.find(call.query.get('path') ?? '');
        call.reply(200, statAt(place.at, place.path));
      }),
    )
    .on(
      'GET',
      '/files/list',
      faulty(async (call) => {
        const stats = list(tree, call.query.get('path') ?? '', call.flag('recursive'));
        // The first step finds the directory, so that its lack can still be answered with an error.
        let next = stats.next();
        const lines = new Lines(call.stream);
        for (let sent = 1; !next.done && !lines.closed; next = stats.next(), sent += 1) {
          if (!lines.write(next.value)) await lines.drained();
          // A deep tree takes its time, and must not keep everyone else waiting.
          if (sent % YIELD_EVERY === 0) await setImmediate();
        }
        lines.end();
      }),
    )
    .on(
      'POST',
      '/files/mkdir',
      faulty(async (call) => {
        const path = bodyPath(await call.json(), 'path');
        const stat = await gate.admit(() => {
          using place = tree.find(path, { follow: true, makeDirectory: makeParent });
          makeDirectory(place.at, owner);
          return statAt(place.at, place.path);
        });
        if (stat.type !== 'directory')
          throw new Fault('file_exists', `"${path}" is no directory`, { field: 'path' });
        call.reply(200, stat);
      }),
    )
    .on(
      'POST',
      '/files/move',
      faulty(async (call) => {
        const body = await call.json();
        const stat = await gate.admit(() => {
          using from = named(tree.find(bodyPath(body, 'from')));
          using to = named(tree.find(bodyPath(body, 'to')));
          renameSync(from.at, to.at);
          return statAt(to.at, to.path);
        });
        call.reply(200, stat);
      }),
    )
    .on(
      'POST',
      '/files/symlink',
      faulty(async (call) => {
        const body = await call.json();
        const target = bodyPath(body, 'target');
        const stat = await gate.admit(() => {
          using place = named(tree.find(bodyPath(body, 'path')));
          symlinkSync(target, place.at);
          return statAt(place.at, place.path);
        });
        call.reply(200, stat);
      }),
    );
}

/** Turns an errno into the code that says what it means for the path of the request. */
function faulty(handler: Handler): Handler {
  return async (call) => {
    try {
      await handler(call);
    } catch (error) {
      throw fileFault(error, call.query.get('path') ?? call.path);
    }
  };
}

function queryPath(call: Call): string {
  const path = call.query.get('path');
  if (!path) throw new Fault('invalid_path', 'The path is empty', { field: 'path' });
  return path;
}

function bodyPath(body: Record<string, unknown>, field: string): string {
  const path = body[field];
  if (typeof path !== 'string' || path === '') {
    throw new Fault('invalid_path', `${field} is not a path`, { field });
  }
  if (path.includes('\0')) throw new Fault('invalid_path', `${field} holds a NUL character`, { field });
  return path;
}

/** The workspace itself can't be replaced, moved or removed. */
function named(place: Place): Place {
  if (place.path !== '') return place;
  place[Symbol.dispose]();
  throw new Fault('invalid_path', 'The path is the workspace itself', { field: 'path' });
}

function checkMode(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (!/^0?[0-7]{3}$/.test(text)) {
    throw new Fault('invalid_request', `mode must be three octal digits, it is "${text}"`, { field: 'mode' });
  }
  return Number.parseInt(text, 8);
}
