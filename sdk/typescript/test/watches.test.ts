// Watches: what each end of a stream leads to, and that nothing is lost or comes twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectError, Code as WireCode } from '@connectrpc/connect';
import { fromTransport } from '../src/error.js';
import { Code, Reason } from '../src/reason.js';
import type { AuditUpdate } from '../src/watch/audit.js';
import { Position } from '../src/watch/position.js';
import type { ReleaseUpdate } from '../src/watch/release.js';
import type { ReleasesUpdate } from '../src/watch/releases.js';
import { refused, Scripted, type Step, WIRES, type Wire } from './scripted.js';

const STORE = 'store-1';

const release = (revision: number) => ({ name: 'releases/r', revision: BigInt(revision) });
const over = (revision: number) => ({ ...release(revision), endTime: {} });
const message = (revision: number) => ({ revision: BigInt(revision), storeId: STORE });
const events = (revision: number) => [{ revision: BigInt(revision) }];

const snapshot = (n: number): Step => ({ send: { ...message(n), release: release(n) } });
const change = (n: number): Step => ({ send: { ...message(n), release: release(n), events: events(n) } });
const last = (n: number): Step => ({ send: { ...message(n), release: over(n), events: events(n) } });
const bookmark = (n: number): Step => ({ send: message(n) });
const end = (code: WireCode, reason: string, retryAfterMs?: number): Step => ({
  end: refused(code, reason, retryAfterMs),
});
const OK: Step = { end: 'ok' };

/** An update in a word. */
function word(update: ReleaseUpdate | ReleasesUpdate | AuditUpdate): string {
  switch (update.type) {
    case 'interrupted':
      return `interrupted ${update.error.code}`;
    case 'restarted':
      return `restarted ${update.error.reason}`;
    case 'resumed':
      return 'resumed';
    case 'snapshot':
      return `snapshot ${update.position.revision}${'releases' in update ? ` of ${update.releases.length}` : ''}`;
    case 'changes':
      return `${update.changes.length} changes ${update.position.revision}`;
    default:
      return `${update.type} ${update.position.revision}`;
  }
}

/** All that a watch tells up to its end, or up to so many updates. */
async function told(
  watch: AsyncIterable<ReleaseUpdate | ReleasesUpdate | AuditUpdate>,
  most = Number.POSITIVE_INFINITY,
): Promise<string[]> {
  const words: string[] = [];
  try {
    for await (const update of watch) {
      words.push(word(update));
      if (words.length === most) return words;
    }
    words.push('done');
  } catch (thrown) {
    const { code, reason } = fromTransport(thrown);
    words.push(`error ${code} ${reason}`.trim());
  }
  return words;
}

/** The places that WatchRelease was called behind. */
function resumed(server: Scripted): [number, string][] {
  const requests = server.callsOf('watchRelease').map(({ request }) => request);
  return requests.map((request) => [Number(request.resumeAfterRevision), String(request.storeId)]);
}

function behind(...revisions: number[]): [number, string][] {
  return revisions.map((revision) => [revision, revision === 0 ? '' : STORE]);
}

/** What a watch of one release tells if its streams do this, and behind what it resumed. */
async function check(wire: Wire, streams: Step[][], expected: string[], positions: number[]): Promise<void> {
  const server = await Scripted.start(wire);
  for (const steps of streams) server.stream(...steps);
  assert.deepEqual(await told(server.client().watchRelease('releases/r')), expected);
  assert.deepEqual(resumed(server), behind(...positions));
}

for (const wire of WIRES) {
  test(`over ${wire} a watch ends when the release is over and its last change was delivered`, async () => {
    const expected = ['snapshot 3', 'change 5', 'bookmark 8', 'change 9', 'done'];
    await check(wire, [[snapshot(3), change(5), bookmark(8), last(9), OK]], expected, [0]);
  });

  test(`over ${wire} a stream that ends early is resumed behind the last message, bookmarks included`, async () => {
    const ends: [Step, Code][] = [
      [end(WireCode.Unavailable, 'STREAM_EXPIRED'), Code.Unavailable],
      [end(WireCode.Unavailable, 'SERVER_DRAINING', 1), Code.Unavailable],
      [end(WireCode.ResourceExhausted, 'SLOW_CONSUMER'), Code.ResourceExhausted],
      [{ end: new ConnectError('ENHANCE_YOUR_CALM', WireCode.ResourceExhausted) }, Code.ResourceExhausted],
      [{ end: new ConnectError('h2 protocol error', WireCode.Internal) }, Code.Internal],
      [{ end: new ConnectError('the connection broke', WireCode.Unknown) }, Code.Unknown],
      [{ end: new ConnectError('by a proxy', WireCode.Canceled) }, Code.Cancelled],
    ];
    for (const [ending, code] of ends) {
      await check(
        wire,
        [
          [snapshot(3), change(5), bookmark(8), ending],
          [last(9), OK],
        ],
        ['snapshot 3', 'change 5', 'bookmark 8', `interrupted ${code}`, 'resumed', 'change 9', 'done'],
        [0, 8],
      );
    }
  });

  test(`over ${wire} a cut connection is made again and loses nothing`, async () => {
    const server = await Scripted.start(wire);
    server.stream(snapshot(3), change(5), 'silence');
    server.stream(change(6), 'silence');
    server.stream(last(7), OK);
    const words: string[] = [];
    for await (const update of server.client().watchRelease('releases/r')) {
      words.push(word(update));
      if (['change 5', 'change 6'].includes(word(update))) server.cut();
    }
    // A connection that does not come about at once is another interruption.
    const told = words.filter((said) => said !== 'interrupted UNAVAILABLE');
    const expected = ['snapshot 3', 'change 5', 'resumed', 'change 6', 'resumed', 'change 7'];
    assert.deepEqual(told, expected);
    assert.deepEqual(resumed(server), behind(0, 5, 6));
  });

  test(`over ${wire} a server that falls silent is left and called again`, async () => {
    const server = await Scripted.start(wire);
    server.stream(snapshot(3), 'silence').stream(last(4), OK);
    const watch = server.client({ silenceMs: 500 }).watchRelease('releases/r');
    const expected = ['snapshot 3', 'interrupted UNAVAILABLE', 'resumed', 'change 4', 'done'];
    assert.deepEqual(await told(watch), expected);
    assert.deepEqual(resumed(server), behind(0, 3));
    await server.calls[0]?.left;
  });

  test(`over ${wire} a log that was cut and another store begin with a snapshot and say so`, async () => {
    const ends: [WireCode, Reason][] = [
      [WireCode.OutOfRange, Reason.RevisionCompacted],
      [WireCode.OutOfRange, Reason.RevisionInFuture],
      [WireCode.OutOfRange, Reason.ViewChanged],
      [WireCode.FailedPrecondition, Reason.StoreReplaced],
    ];
    for (const [code, reason] of ends) {
      const server = await Scripted.start(wire);
      server.stream(snapshot(3), change(5), end(WireCode.Unavailable, 'STREAM_EXPIRED'));
      server.stream(end(code, reason));
      server.stream(snapshot(70), last(71), OK);
      // When a stream is open that ends at once is the transport's to say.
      const words = (await told(server.client().watchRelease('releases/r'))).filter(
        (said) => said !== 'resumed',
      );
      const before = ['snapshot 3', 'change 5', 'interrupted UNAVAILABLE'];
      assert.deepEqual(words, [...before, `restarted ${reason}`, 'snapshot 70', 'change 71', 'done']);
      assert.deepEqual(resumed(server), behind(0, 5, 0));
    }
  });

  test(`over ${wire} what cannot get better ends the watch with its error`, async () => {
    const ends: [ConnectError, string][] = [
      [refused(WireCode.NotFound, 'RESOURCE_NOT_FOUND'), 'error NOT_FOUND RESOURCE_NOT_FOUND'],
      [refused(WireCode.InvalidArgument, 'INVALID_FIELD'), 'error INVALID_ARGUMENT INVALID_FIELD'],
      [new ConnectError('no', WireCode.PermissionDenied), 'error PERMISSION_DENIED'],
      [new ConnectError('no', WireCode.Unimplemented), 'error UNIMPLEMENTED'],
      [new ConnectError('no', WireCode.Unauthenticated), 'error UNAUTHENTICATED'],
      [new ConnectError('message too large', WireCode.OutOfRange), 'error OUT_OF_RANGE'],
    ];
    for (const [error, expected] of ends) await check(wire, [[{ end: error }]], [expected], [0]);
  });

  test(`over ${wire} leaving the loop ends the watch on the server`, async () => {
    const server = await Scripted.start(wire);
    server.stream(snapshot(3), 'silence');
    for await (const update of server.client().watchRelease('releases/r')) {
      assert.equal(word(update), 'snapshot 3');
      break;
    }
    await server.calls[0]?.left;
  });

  test(`over ${wire} an update that is awaited when the watch is left comes as the end`, async () => {
    const server = await Scripted.start(wire);
    server.stream(snapshot(3), 'silence');
    const watch = server.client().watchRelease('releases/r');
    await watch.next();
    const awaited = watch.next();
    await watch.return();
    assert.deepEqual(await awaited, { done: true, value: undefined });
    assert.deepEqual(await watch.next(), { done: true, value: undefined });
    await server.calls[0]?.left;
  });

  test(`over ${wire} a watch that is aborted fails, because its release is not over`, async () => {
    const server = await Scripted.start(wire);
    server.stream(snapshot(3), 'silence');
    const controller = new AbortController();
    const watch = server.client().watchRelease('releases/r', { signal: controller.signal });
    await watch.next();
    const awaited = watch.next().then(() => assert.fail('it does not end'), fromTransport);
    controller.abort('changed my mind');
    const error = await awaited;
    assert.deepEqual([error.code, error.cause], [Code.Cancelled, 'changed my mind']);
    await server.calls[0]?.left;
  });
}

test('an OK without the end of the release is checked with the release itself', async () => {
  const cases: [object, string[], number[]][] = [
    [over(9), ['done'], [8]],
    [release(8), ['interrupted UNAVAILABLE', 'resumed', 'change 9', 'done'], [8, 8]],
  ];
  for (const [now, expected, positions] of cases) {
    const server = await Scripted.start();
    server
      .stream(OK)
      .stream(last(9), OK)
      .reply({ answer: { release: now } });
    const from = { revision: 8, storeId: STORE };
    assert.deepEqual(await told(server.client().watchRelease('releases/r', { from })), expected);
    assert.deepEqual(resumed(server), behind(...positions));
  }
});

test('a position that went through JSON is resumed from', async () => {
  const server = await Scripted.start();
  server.stream(snapshot(3), change(5), 'silence').stream(last(9), OK);
  const client = server.client();
  let kept = '';
  for await (const update of client.watchRelease('releases/r')) {
    if (update.type !== 'change') continue;
    kept = JSON.stringify(update.position);
    break;
  }
  assert.equal(kept, '{"revision":"5","storeId":"store-1"}');
  const watch = client.watchRelease('releases/r', { from: JSON.parse(kept) });
  assert.deepEqual(await told(watch), ['change 9', 'done']);
  assert.deepEqual(resumed(server), behind(0, 5));
  assert.throws(() => new Position({ revision: 'soon', storeId: '' }), SyntaxError);
});

test('a credential that is refused is renewed twice at most, and anew after a message', async () => {
  const refusal = end(WireCode.Unauthenticated, 'UNAUTHENTICATED');
  const server = await Scripted.start();
  server.stream(snapshot(3), refusal).stream(refusal).stream(change(4), refusal);
  server.stream(refusal).stream(refusal);
  let asked = 0;
  const client = server.client({ token: () => `pgt_${++asked}` });
  const words = (await told(client.watchRelease('releases/r'))).filter((said) => said !== 'resumed');
  const again = 'interrupted UNAUTHENTICATED';
  const expected = ['snapshot 3', again, again, 'change 4', again, again];
  assert.deepEqual(words, [...expected, 'error UNAUTHENTICATED UNAUTHENTICATED']);
  const sent = server.calls.map(({ headers }) => headers.get('authorization'));
  assert.deepEqual(
    sent,
    [1, 2, 3, 4, 5].map((n) => `Bearer pgt_${n}`),
  );
});

test('an update is taken from the server only when it is asked for', async () => {
  const server = await Scripted.start();
  const size = 100 * 1024;
  const large = (n: number): Step => ({
    send: { ...message(n), release: { ...release(n), description: 'x'.repeat(size) }, events: events(n) },
  });
  server.stream(...Array.from({ length: 1000 }, (_, n) => large(n + 1)));
  const client = server.client();
  const watch = client.watchRelease('releases/r');
  await watch.next();
  // A call goes there and back meanwhile, on another connection, so that the stream had its time.
  for (let turn = 0; turn < 20; turn += 1) {
    server.reply({ answer: { flag: {} } });
    await client.getFlag('flags/f');
  }
  assert(server.sent < 100, `${server.sent} of 1000 messages were sent unasked`);
  await watch.return();
});

test('watches keep off the connection of calls', async () => {
  const server = await Scripted.start();
  server.stream(snapshot(3), 'silence').reply({ answer: { release: release(3) } });
  const client = server.client();
  await client.getRelease('releases/r');
  assert.equal(server.connections, 1);
  const watch = client.watchRelease('releases/r');
  await watch.next();
  assert.equal(server.connections, 2);
});

test('a watch signs with the caller and has no deadline', async () => {
  const server = await Scripted.start();
  server.stream(last(4), OK);
  const client = server.client({ principal: 'ann', groups: ['sre'], token: 'pgt_x' });
  assert.deepEqual(await told(client.watchRelease('releases/r')), ['change 4', 'done']);
  const headers = server.calls[0]?.headers;
  assert.equal(headers?.get('phasegate-principal'), 'ann');
  assert.equal(headers?.get('phasegate-groups'), 'sre');
  assert.equal(headers?.get('authorization'), 'Bearer pgt_x');
  assert.equal(headers?.get('grpc-timeout'), null);
});

test('a client that is closed ends its watches, and begins none', async () => {
  const server = await Scripted.start();
  server.stream(snapshot(3), 'silence');
  const client = server.client();
  const watch = client.watchRelease('releases/r');
  await watch.next();
  const rest = told(watch);
  client.close();
  assert.deepEqual(await rest, ['error CANCELLED']);
  assert.deepEqual(await told(client.watchRelease('releases/r')), ['error CANCELLED']);
  assert.equal(server.calls.length, 1);
});

test('a watch of many tells whole sets only and resumes with its filter', async () => {
  const server = await Scripted.start();
  const part = (count: number): Step => ({
    send: { storeId: STORE, initial: Array.from({ length: count }, (_, n) => release(n)) },
  });
  const synced = (n: number): Step => ({ send: { ...message(n), synced: true } });
  const changes = (n: number, count: number): Step => ({
    send: { ...message(n), changes: Array.from({ length: count }, () => ({})) },
  });
  const expired = end(WireCode.Unavailable, 'STREAM_EXPIRED');
  server
    // Broken before it was complete: begun anew, and never shown.
    .stream(part(2), part(2), expired)
    .stream(part(1), synced(7), changes(9, 2), bookmark(12), expired)
    .stream(changes(14, 1), OK)
    .stream(end(WireCode.OutOfRange, 'REVISION_COMPACTED'))
    .stream(part(2), part(1), synced(40), changes(41, 1), 'silence');
  const expected = [
    'interrupted UNAVAILABLE',
    'snapshot 7 of 1',
    '2 changes 9',
    'bookmark 12',
    'interrupted UNAVAILABLE',
    '1 changes 14',
    'interrupted UNAVAILABLE',
    'restarted REVISION_COMPACTED',
    'snapshot 40 of 3',
    '1 changes 41',
  ];
  const words: string[] = [];
  for await (const update of server.client().watchReleases({ unfinishedOnly: true, flags: ['flags/f'] })) {
    if (update.type !== 'resumed') words.push(word(update));
    if (words.length === expected.length) break;
  }
  assert.deepEqual(words, expected);
  const requests = server.calls.map(({ request }) => request);
  const places = requests.map((request) => Number(request.resumeAfterRevision));
  assert.deepEqual(places, [0, 0, 12, 14, 0]);
  for (const request of requests) {
    const { flags, unfinishedOnly } = request.filter as { flags: string[]; unfinishedOnly: boolean };
    assert.deepEqual([flags, unfinishedOnly], [['flags/f'], true]);
  }
});

test('a watch of the audit chain tells each entry once, and begins anew with another store', async () => {
  const server = await Scripted.start();
  const at = (n: number, storeId = STORE) => ({ sequence: BigInt(n), storeId });
  const entry = (n: number, storeId?: string): Step => ({
    send: { ...at(n, storeId), entry: { sequence: BigInt(n) } },
  });
  server
    .stream(entry(1), entry(2), { send: at(2) }, end(WireCode.Unavailable, 'STREAM_EXPIRED'))
    .stream(entry(3), OK)
    .stream(end(WireCode.FailedPrecondition, 'STORE_REPLACED'))
    .stream(entry(1, 'store-2'), 'silence');
  const expected = [
    'entry 1',
    'entry 2',
    'bookmark 2',
    'interrupted UNAVAILABLE',
    'entry 3',
    'interrupted UNAVAILABLE',
    'restarted STORE_REPLACED',
    'entry 1',
  ];
  const words: string[] = [];
  for await (const update of server.client().watchAuditEntries()) {
    if (update.type !== 'resumed') words.push(word(update));
    if (words.length === expected.length) break;
  }
  assert.deepEqual(words, expected);
  const places = server.calls.map(({ request }) => [Number(request.afterSequence), request.storeId]);
  assert.deepEqual(places, [
    [0, ''],
    [2, STORE],
    [3, STORE],
    [0, ''],
  ]);
});
