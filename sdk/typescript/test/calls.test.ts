// Calls: made under their own name, as somebody, again only if that is safe, and not for ever.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { ConnectError, Code as WireCode } from '@connectrpc/connect';
import type { Client } from '../src/client.js';
import { fromTransport, type PhasegateError } from '../src/error.js';
import { connect } from '../src/node.js';
import { Code, Reason } from '../src/reason.js';
import { PauseReleaseRequestSchema } from '../src/v1.js';
import { PATIENCE_MS, type Reply, refused, Scripted, WIRES } from './scripted.js';

const PAUSED = { answer: { release: { name: 'releases/r' } } };

/** Every call, with the RPC it is to reach and what its answer has. */
const ALL: [string, object, (client: Client) => Promise<unknown>][] = [
  ['createFlag', { flag: {} }, (client) => client.createFlag({})],
  ['createFlag', {}, (client) => client.planCreateFlag({})],
  ['updateFlag', { flag: {} }, (client) => client.updateFlag({})],
  ['updateFlag', {}, (client) => client.planUpdateFlag({})],
  ['deleteFlag', {}, (client) => client.deleteFlag({})],
  ['setKillSwitch', { flag: {} }, (client) => client.setKillSwitch({ engaged: true })],
  ['createPipeline', { pipeline: {} }, (client) => client.createPipeline({})],
  ['createPipeline', {}, (client) => client.planCreatePipeline({})],
  ['updatePipeline', { pipeline: {} }, (client) => client.updatePipeline({})],
  ['updatePipeline', {}, (client) => client.planUpdatePipeline({})],
  ['deletePipeline', {}, (client) => client.deletePipeline({})],
  ['triggerRelease', { release: {} }, (client) => client.triggerRelease({})],
  ['triggerRelease', {}, (client) => client.planRelease({})],
  ['approvePhase', { release: {} }, (client) => client.approvePhase({})],
  ['rejectPhase', { release: {} }, (client) => client.rejectPhase({})],
  ['pauseRelease', { release: {} }, (client) => client.pauseRelease({})],
  ['unpauseRelease', { release: {} }, (client) => client.unpauseRelease({})],
  ['skipPhase', { release: {} }, (client) => client.skipPhase({})],
  ['overrideWindow', { release: {} }, (client) => client.overrideWindow({})],
  ['adjustBake', { release: {} }, (client) => client.adjustBake({})],
  ['abortRelease', { release: {} }, (client) => client.abortRelease({})],
  ['fullRollout', { release: {} }, (client) => client.fullRollout({})],
  ['reportGuardSignal', { release: {} }, (client) => client.reportGuardSignal({})],
  ['getFlag', { flag: {} }, (client) => client.getFlag('flags/f')],
  ['listFlags', {}, (client) => client.listFlags()],
  ['evaluateFlag', {}, (client) => client.evaluateFlag({})],
  ['getPipeline', { pipeline: {} }, (client) => client.getPipeline('pipelines/p')],
  ['listPipelines', {}, (client) => client.listPipelines()],
  ['getRelease', { release: {} }, (client) => client.getRelease('releases/r')],
  ['listReleases', {}, (client) => client.listReleases()],
  ['listReleaseEvents', {}, (client) => client.listReleaseEvents({ parent: 'releases/-' })],
  ['waitRelease', {}, (client) => client.waitRelease({})],
  ['getIdentity', {}, (client) => client.identity()],
  ['listAuditEntries', {}, (client) => client.listAuditEntries()],
  ['getAuditHead', {}, (client) => client.getAuditHead()],
  ['listSinks', {}, (client) => client.listSinks()],
  ['listDeadLetters', {}, (client) => client.listDeadLetters({})],
  ['replayDeadLetters', {}, (client) => client.replayDeadLetters({})],
  ['sendTestNotification', {}, (client) => client.sendTestNotification('sink')],
  ['get', { now: {} }, (client) => client.clockNow()],
  ['advance', { now: {} }, (client) => client.advanceClock({ seconds: 5n })],
];
/** So many of them, the first, change something under an id. */
const MUTATIONS = 23;

/** What a call fails with. */
function failure(call: Promise<unknown>): Promise<PhasegateError> {
  return call.then(() => assert.fail('it does not fail'), fromTransport);
}

for (const wire of WIRES) {
  test(`over ${wire} every call reaches its RPC as the caller and with a fresh request id`, async () => {
    const server = await Scripted.start(wire);
    const client = server.client({ principal: 'ann', groups: ['sre', 'ops'], token: 'pgt_x' });
    for (const [, answer, call] of ALL) {
      server.reply({ answer });
      await call(client);
    }
    assert.deepEqual(
      server.calls.map(({ rpc }) => rpc),
      ALL.map(([rpc]) => rpc),
    );
    const ids = new Set<unknown>();
    for (const [at, { rpc, headers, request }] of server.calls.entries()) {
      assert.equal(headers.get('phasegate-principal'), 'ann', rpc);
      assert.equal(headers.get('phasegate-groups'), 'sre,ops', rpc);
      assert.equal(headers.get('authorization'), 'Bearer pgt_x', rpc);
      assert.match(headers.get('grpc-timeout') ?? '', /^\d+m$/, rpc);
      if (at < MUTATIONS) {
        assert.match(
          String(request.requestId),
          /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
        );
        ids.add(request.requestId);
      } else {
        assert.equal('requestId' in request, false, rpc);
      }
    }
    assert.equal(ids.size, MUTATIONS, 'each has its own');
    const checked = server.calls.flatMap(({ request }, at) => (request.validateOnly === true ? [at] : []));
    assert.deepEqual(checked, [1, 3, 7, 9, 12]);
  });

  /** What a pause comes to with these replies, and the request ids that came. */
  const paused = async (...replies: Reply[]) => {
    const server = await Scripted.start(wire);
    server.reply(...replies);
    const call = server.client().pauseRelease({ name: 'releases/r' });
    const result = await call.then((release) => release.name, fromTransport);
    return { result, ids: server.calls.map(({ request }) => request.requestId) };
  };

  test(`over ${wire} a call that failed in passing is made again under the same request id`, async () => {
    const passing: Reply[] = [
      { refusal: new ConnectError('a proxy is restarting', WireCode.Unavailable) },
      { refusal: refused(WireCode.Unavailable, 'STORE_READ_ONLY') },
      { refusal: refused(WireCode.Unavailable, 'SERVER_DRAINING', 0) },
      { refusal: refused(WireCode.ResourceExhausted, 'RATE_LIMITED', 0) },
      { refusal: new ConnectError('the connection broke', WireCode.Unknown) },
      'cut',
    ];
    for (const fail of passing) {
      const { result, ids } = await paused(fail, PAUSED);
      assert.equal(result, 'releases/r');
      assert.equal(ids.length, 2);
      assert.equal(ids[0], ids[1]);
    }
  });

  test(`over ${wire} a refusal is an answer and not repeated`, async () => {
    const refusals: [WireCode, Code, Reason][] = [
      [WireCode.FailedPrecondition, Code.FailedPrecondition, Reason.AlreadyPaused],
      [WireCode.InvalidArgument, Code.InvalidArgument, Reason.InvalidField],
      [WireCode.NotFound, Code.NotFound, Reason.ResourceNotFound],
      [WireCode.Aborted, Code.Aborted, Reason.EtagMismatch],
      [WireCode.ResourceExhausted, Code.ResourceExhausted, Reason.QueueFull],
      [WireCode.Internal, Code.Internal, Reason.Internal],
      [WireCode.Unauthenticated, Code.Unauthenticated, Reason.Unauthenticated],
    ];
    for (const [wireCode, code, reason] of refusals) {
      const { result, ids } = await paused({ refusal: refused(wireCode, reason) }, PAUSED);
      assert(typeof result !== 'string');
      assert.deepEqual([result.code, result.reason], [code, reason]);
      assert.equal(ids.length, 1);
    }
  });

  test(`over ${wire} a server that does not answer ends in a deadline`, async () => {
    const server = await Scripted.start(wire);
    server.reply('silence');
    const error = await failure(server.client({ timeoutMs: 50 }).getFlag('flags/f'));
    assert.deepEqual([error.code, error.reason], [Code.DeadlineExceeded, Reason.None]);
    assert.equal(error.isUnreachable, true);
    await server.calls[0]?.left;
  });

  test(`over ${wire} a call that is aborted ends at once, on the server too`, async () => {
    const server = await Scripted.start(wire);
    server.reply('silence');
    const controller = new AbortController();
    const arrives = server.nextCall();
    const call = failure(server.client().getFlag('flags/f', { signal: controller.signal }));
    const { left } = await arrives;
    controller.abort('changed my mind');
    const error = await call;
    assert.deepEqual([error.code, error.cause], [Code.Cancelled, 'changed my mind']);
    await left;
  });

  test(`over ${wire} an address where nobody listens is said with the cause`, async () => {
    const server = await Scripted.start(wire);
    const client = server.client({ retry: { attempts: 1 } });
    server.stop();
    const error = await failure(client.getFlag('flags/f'));
    assert.equal(error.code, Code.Unavailable);
    assert.match(error.message, /ECONNREFUSED/);
  });
}

test('attempts are bounded', async () => {
  const server = await Scripted.start();
  const fail = () => ({ refusal: new ConnectError('gone', WireCode.Unavailable) });
  server.reply(...Array.from({ length: 9 }, fail));
  const error = await failure(server.client().pauseRelease({}));
  assert.equal(error.message, 'gone [UNAVAILABLE]');
  assert.equal(server.calls.length, 5);
});

test('a wait that the timeout does not leave room for is not begun', async () => {
  const server = await Scripted.start();
  server.reply({ refusal: refused(WireCode.Unavailable, 'SERVER_DRAINING', 3_600_000) }, PAUSED);
  const error = await failure(server.client().pauseRelease({}));
  assert.deepEqual([error.reason, error.retryAfterMs], [Reason.ServerDraining, 3_600_000]);
  assert.equal(server.calls.length, 1);
});

test('a wait ends when the call is aborted', async () => {
  const server = await Scripted.start();
  server.reply({ refusal: refused(WireCode.Unavailable, 'SERVER_DRAINING', PATIENCE_MS / 2) });
  const controller = new AbortController();
  const arrives = server.nextCall();
  const call = failure(server.client().pauseRelease({}, { signal: controller.signal }));
  await arrives;
  controller.abort();
  assert.equal((await call).code, Code.Cancelled);
});

test('a request id that was given is kept, and a request that was given is not changed', async () => {
  const server = await Scripted.start();
  server.reply(PAUSED, PAUSED);
  const client = server.client();
  await client.pauseRelease({ requestId: 'mine' });
  const request = create(PauseReleaseRequestSchema, { name: 'releases/r' });
  await client.pauseRelease(request);
  assert.equal(server.calls[0]?.request.requestId, 'mine');
  assert.equal(String(server.calls[1]?.request.requestId).length, 36);
  assert.equal(request.requestId, '');
});

test('the clock is never moved twice', async () => {
  const server = await Scripted.start();
  server.reply({ refusal: new ConnectError('gone', WireCode.Unavailable) });
  const error = await failure(server.client().advanceClock({ seconds: 1n }));
  assert.equal(error.code, Code.Unavailable);
  assert.equal(server.calls.length, 1);
});

test('WaitRelease is given as much longer as it may take', async () => {
  const server = await Scripted.start();
  server.reply({ answer: {} }, { answer: {} });
  const client = server.client({ timeoutMs: 1000 });
  await client.waitRelease({ maxWait: { seconds: 20n } });
  await client.waitRelease({});
  const times = server.calls.map(({ headers }) => Number.parseInt(headers.get('grpc-timeout') ?? '', 10));
  const [first = 0, second = 0] = times;
  assert(first > 20_000 && first <= 21_000, String(first));
  assert(second > 30_000 && second <= 31_000, String(second));
});

test('the total time of a call is one: the server is told what is left of it', async () => {
  const server = await Scripted.start();
  server.reply({ refusal: refused(WireCode.Unavailable, 'SERVER_DRAINING', 100) }, PAUSED);
  await server.client({ timeoutMs: 20_000 }).pauseRelease({});
  const times = server.calls.map(({ headers }) => Number.parseInt(headers.get('grpc-timeout') ?? '', 10));
  const [first = 0, second = 0] = times;
  assert(second <= first - 100, `${first} then ${second}`);
});

test('an answer without its resource is an error', async () => {
  const server = await Scripted.start();
  server.reply({ answer: {} });
  const error = await failure(server.client().pauseRelease({}));
  assert.equal(error.message, "the server's answer lacks `release` [INTERNAL]");
});

test('a message above 4 MiB is not read, and not asked for again', async () => {
  const server = await Scripted.start();
  server.reply({ answer: { flag: { description: 'x'.repeat(4 * 1024 * 1024) } } });
  // The scripted server waits until the deadline for what nobody reads: so it is a short one.
  const error = await failure(server.client({ timeoutMs: 10_000 }).getFlag('flags/f'));
  assert.deepEqual([error.code, error.reason], [Code.OutOfRange, Reason.None]);
  assert.equal(server.calls.length, 1);
});

test('a token that is asked for is asked for each time', async () => {
  const server = await Scripted.start();
  server.reply({ answer: { flag: {} } }, { answer: { flag: {} } });
  let asked = 0;
  const client = server.client({ token: async () => `pgt_${++asked}` });
  await client.getFlag('flags/f');
  await client.getFlag('flags/f');
  const sent = server.calls.map(({ headers }) => headers.get('authorization'));
  assert.deepEqual(sent, ['Bearer pgt_1', 'Bearer pgt_2']);
});

test('many calls at a time share a signal without a warning', async () => {
  const server = await Scripted.start();
  const warnings: string[] = [];
  const warned = ({ message }: Error) => warnings.push(message);
  process.on('warning', warned);
  const { signal } = new AbortController();
  const client = server.client();
  const calls = Array.from({ length: 50 }, () => {
    server.reply({ answer: { flag: {} } });
    return client.getFlag('flags/f', { signal });
  });
  await Promise.all(calls);
  process.off('warning', warned);
  assert.deepEqual(warnings, []);
});

test('a client that is closed ends its calls, and makes none', async () => {
  const server = await Scripted.start();
  server.reply('silence');
  const client = server.client();
  const arrives = server.nextCall();
  const call = failure(client.getFlag('flags/f'));
  const { left } = await arrives;
  client.close();
  client.close();
  for (const error of [await call, await failure(client.getFlag('flags/f'))]) {
    assert.equal(error.message, 'the client is closed [CANCELLED]');
  }
  await left;
  assert.equal(server.calls.length, 1);
});

test('a call with a time that no timer keeps fails before it is made', async () => {
  const client = connect('http://127.0.0.1:1');
  const error = await failure(client.getFlag('flags/f', { timeoutMs: -1 }));
  assert.equal(error.code, Code.InvalidArgument);
});
