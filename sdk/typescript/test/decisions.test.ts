// The tables: what the end of a stream means, whether a call is made again, how long to wait.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type After, afterEnd, Backoff, callsAgain, isPassing, longerWaitMs } from '../src/decisions.js';
import { Code, Reason } from '../src/reason.js';

const RETRY = { attempts: 5, firstMs: 200, longestMs: 20_000 };

test('every end of a stream leads where the table says', () => {
  const table: [Code, Reason, After][] = [
    [Code.OutOfRange, Reason.RevisionCompacted, 'restart'],
    [Code.OutOfRange, Reason.RevisionInFuture, 'restart'],
    [Code.OutOfRange, Reason.ViewChanged, 'restart'],
    [Code.OutOfRange, Reason.None, 'fail'],
    [Code.FailedPrecondition, Reason.StoreReplaced, 'restart'],
    [Code.FailedPrecondition, Reason.ReleaseOver, 'resume'],
    [Code.FailedPrecondition, Reason.None, 'resume'],
    [Code.NotFound, Reason.ResourceNotFound, 'fail'],
    [Code.NotFound, Reason.None, 'fail'],
    [Code.InvalidArgument, Reason.InvalidField, 'fail'],
    [Code.PermissionDenied, Reason.PermissionMissing, 'fail'],
    [Code.Unimplemented, Reason.None, 'fail'],
    [Code.Unauthenticated, Reason.Unauthenticated, 'fail'],
    [Code.Cancelled, Reason.None, 'resume'],
    [Code.Unknown, Reason.None, 'resume'],
    [Code.DeadlineExceeded, Reason.None, 'resume'],
    [Code.AlreadyExists, Reason.None, 'resume'],
    [Code.ResourceExhausted, Reason.SlowConsumer, 'resume'],
    [Code.ResourceExhausted, Reason.TooManyWatches, 'resume'],
    [Code.ResourceExhausted, Reason.None, 'resume'],
    [Code.Aborted, Reason.None, 'resume'],
    [Code.Internal, Reason.Internal, 'resume'],
    [Code.Unavailable, Reason.StreamExpired, 'resume'],
    [Code.Unavailable, Reason.ServerDraining, 'resume'],
    [Code.Unavailable, Reason.None, 'resume'],
    [Code.DataLoss, Reason.None, 'resume'],
  ];
  assert.equal(new Set(table.map(([code]) => code)).size, Object.keys(Code).length, 'every code is there');
  for (const [code, reason, expected] of table) {
    const standing = { hasPosition: true, canRenew: false, refusals: 0 };
    assert.equal(afterEnd({ code, reason }, standing), expected, `${code} ${reason}`);
  }
});

test('what restarts a watch that has no position yet is waited for', () => {
  const standing = { hasPosition: false, canRenew: false, refusals: 0 };
  const ends = [
    { code: Code.OutOfRange, reason: Reason.RevisionCompacted },
    { code: Code.FailedPrecondition, reason: Reason.StoreReplaced },
  ];
  for (const end of ends) assert.equal(afterEnd(end, standing), 'resume');
});

test('a credential that can be renewed is tried twice more', () => {
  const refusal = { code: Code.Unauthenticated, reason: Reason.Unauthenticated };
  const led = [0, 1, 2, 3].map((refusals) =>
    afterEnd(refusal, { hasPosition: true, canRenew: true, refusals }),
  );
  assert.deepEqual(led, ['resume', 'resume', 'fail', 'fail']);
});

test('a call is made again only if it failed in passing', () => {
  const passing: [Code, Reason][] = [
    [Code.Unavailable, Reason.None],
    [Code.Unavailable, Reason.ServerDraining],
    [Code.Unavailable, Reason.StoreReadOnly],
    [Code.Unknown, Reason.None],
    [Code.ResourceExhausted, Reason.RateLimited],
    [Code.ResourceExhausted, Reason.Overloaded],
  ];
  const final: [Code, Reason][] = [
    [Code.Unknown, 'MOON_PHASE'],
    [Code.ResourceExhausted, Reason.None],
    [Code.ResourceExhausted, Reason.QueueFull],
    [Code.ResourceExhausted, Reason.FlagSetTooLarge],
    [Code.Internal, Reason.Internal],
    [Code.DeadlineExceeded, Reason.None],
    [Code.Cancelled, Reason.None],
    [Code.Aborted, Reason.EtagMismatch],
    [Code.Unauthenticated, Reason.Unauthenticated],
    [Code.FailedPrecondition, Reason.AlreadyPaused],
    [Code.OutOfRange, Reason.None],
  ];
  for (const [code, reason] of passing) assert.equal(isPassing({ code, reason }), true, `${code} ${reason}`);
  for (const [code, reason] of final) assert.equal(isPassing({ code, reason }), false, `${code} ${reason}`);
});

test('a call is made again while attempts and time are left', () => {
  const gone = { code: Code.Unavailable, reason: Reason.None };
  const again = (attempt: number, waitMs: number) =>
    callsAgain(gone, { attempt, attempts: 5, waitMs, leftMs: 1000 });
  assert.equal(again(4, 1000), true);
  assert.equal(again(5, 0), false);
  assert.equal(again(1, 1001), false);
  const refusal = { code: Code.NotFound, reason: Reason.ResourceNotFound };
  assert.equal(callsAgain(refusal, { attempt: 1, attempts: 5, waitMs: 0, leftMs: 1000 }), false);
});

test('the limit of a wait doubles up to the longest and begins anew after a reset', () => {
  const gone = { code: Code.Unavailable, reason: Reason.None };
  const highest = new Backoff(RETRY, () => 1);
  for (const limit of [200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000]) {
    assert.equal(highest.next(gone), limit);
  }
  for (let turn = 0; turn < 2000; turn += 1) highest.next(gone);
  assert.equal(highest.next(gone), 20_000);
  highest.reset();
  assert.equal(highest.next(gone), 200);
  assert.equal(new Backoff(RETRY, () => 0.25).next(gone), 50);
  const unhurried = new Backoff({ ...RETRY, firstMs: 0 }, () => 1);
  for (let turn = 0; turn < 2000; turn += 1) assert.equal(unhurried.next(gone), 0);
});

test("the server's wish is kept to the letter", () => {
  const draining = { code: Code.Unavailable, reason: Reason.ServerDraining, retryAfterMs: 77_000 };
  assert.equal(new Backoff(RETRY, () => 0.5).next(draining), 77_000);
  assert.equal(new Backoff(RETRY, () => 0.5).next({ ...draining, retryAfterMs: 0 }), 0);
});

test('WaitRelease may take as much longer as it was told, within its limits', () => {
  const table: [number | undefined, number][] = [
    [undefined, 30_000],
    [0, 0],
    [5_000, 5_000],
    [60_000, 60_000],
    [3_600_000, 60_000],
    [-1, 30_000],
  ];
  for (const [given, expected] of table) assert.equal(longerWaitMs(given), expected);
});
