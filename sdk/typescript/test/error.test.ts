// Errors: decided on by their reason, read by people.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectError, Code as WireCode } from '@connectrpc/connect';
import { fromTransport } from '../src/error.js';
import { Code, Reason } from '../src/reason.js';
import { ErrorReason } from '../src/v1.js';
import { bad, info, refused, Scripted, WIRES } from './scripted.js';

/** What a client makes of an error that a server answers with. */
async function received(error: ConnectError, wire = WIRES[0]) {
  const server = await Scripted.start(wire);
  server.reply({ refusal: error });
  return server
    .client({ retry: { attempts: 1 } })
    .getFlag('flags/f')
    .then(() => assert.fail('no error'), fromTransport);
}

test('every reason of the contract has a constant', () => {
  const wire = Object.values(ErrorReason).filter(
    (name) => typeof name === 'string' && name !== 'UNSPECIFIED',
  );
  const known = Object.values(Reason).filter((reason) => reason !== Reason.None);
  assert.deepEqual([...known].sort(), [...wire].sort());
});

for (const wire of WIRES) {
  test(`over ${wire} reason, metadata, violations and the wait are kept and shown`, async () => {
    const refusal = refused(WireCode.InvalidArgument, 'INVALID_FIELD', 3250, '2 fields are invalid');
    const facts = info('INVALID_FIELD', 'phasegate.v1', { state: 'BAKING' });
    const violations = [
      { field: 'flag_id', description: 'must not be empty' },
      { field: 'flag.spec', description: 'must be set' },
    ];
    refusal.details = [facts, bad(...violations), ...refusal.details.slice(1)];
    const error = await received(refusal, wire);
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(error.reason, Reason.InvalidField);
    assert.deepEqual(error.metadata, { state: 'BAKING' });
    assert.deepEqual(error.violations, violations);
    assert.equal(error.retryAfterMs, 3250);
    assert.equal(error.rawMessage, '2 fields are invalid');
    assert.equal(
      String(error),
      'PhasegateError: 2 fields are invalid: flag_id must not be empty; flag.spec must be set [INVALID_FIELD]',
    );
    assert.equal(error.isUnreachable, false);
  });

  test(`over ${wire} every code comes as it is spelled`, async () => {
    const spelled = Object.values(Code).filter((code) => code !== Code.Cancelled);
    for (const code of spelled) {
      const name = code.toLowerCase().replace(/(^|_)(.)/g, (_, __, first: string) => first.toUpperCase());
      const number = WireCode[name as keyof typeof WireCode];
      const error = await received(refused(number, 'MOON_PHASE'), wire);
      assert.equal(error.code, code);
    }
  });
}

test('a reason of a newer server keeps its name', async () => {
  const error = await received(refused(WireCode.FailedPrecondition, 'MOON_PHASE'));
  assert.equal(error.reason, 'MOON_PHASE');
  assert.equal(error.message, 'no [MOON_PHASE]');
});

test('an error of another domain has no reason', async () => {
  const details = [info('RELEASE_PAUSED', 'proxy.example')];
  const error = await received(new ConnectError('bad gateway', WireCode.Unavailable, undefined, details));
  assert.equal(error.reason, Reason.None);
  assert.equal(error.message, 'bad gateway [UNAVAILABLE]');
  assert.equal(error.isUnreachable, true);
});

test('a violation that the message says is not said twice', async () => {
  const details = [info('INVALID_FIELD'), bad({ field: 'duration', description: 'must be above 0 s' })];
  const message = 'duration must be above 0 s';
  const error = await received(new ConnectError(message, WireCode.InvalidArgument, undefined, details));
  assert.equal(error.message, 'duration must be above 0 s [INVALID_FIELD]');
});

test('what the transport says of a broken connection is not taken for an answer', () => {
  const codes = [WireCode.Aborted, WireCode.Canceled, WireCode.Internal, WireCode.Unknown];
  for (const code of codes) {
    const cause = new Error('fetch failed', { cause: new Error('connect refused') });
    const error = fromTransport(new ConnectError('broken', code, undefined, undefined, cause));
    assert.equal(error.code, Code.Unavailable);
    assert.equal(error.rawMessage, 'broken: fetch failed: connect refused');
    assert.equal(error.isUnreachable, true);
  }
  const answered = new ConnectError('no', WireCode.Internal, { 'grpc-status': '13' });
  assert.equal(fromTransport(answered).code, Code.Internal);
});
