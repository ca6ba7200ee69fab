// What is decided about calls and watches, without doing anything: what the end of a stream means, whether
// a call may be made again, and how long to wait before.

import { Code, Reason } from './reason.js';

/** What is decided by of an error. */
export interface Failure {
  readonly code: Code;
  readonly reason: Reason;
  readonly retryAfterMs?: number | undefined;
}

/** How often, and how patiently, calls are made again. */
export interface Retry {
  /**
   * How often one call is made in all. 1 never repeats. Does not concern watches, which go on until they are
   * left. Default 5.
   */
  readonly attempts: number;
  /** Longest first wait, in milliseconds; each later one may be twice as long. Default 200. */
  readonly firstMs: number;
  /**
   * No wait is longer, in milliseconds, the server's own wishes apart. Default 20,000, which is what restarts
   * take.
   */
  readonly longestMs: number;
}

/**
 * The waits of one call, or of one watch. They grow exponentially with full jitter: each is drawn evenly
 * between nothing and the limit of its turn, because all clients of a server lose it at the same moment.
 */
export class Backoff {
  readonly #retry: Retry;
  readonly #random: () => number;
  #turn = 0;

  constructor(retry: Retry, random: () => number = Math.random) {
    this.#retry = retry;
    this.#random = random;
  }

  /** The next wait begins small again. */
  reset(): void {
    this.#turn = 0;
  }

  /** How many milliseconds to wait after this failure: as long as the server asked for, else a drawn time. */
  next(failure: Failure): number {
    const { firstMs, longestMs } = this.#retry;
    const limit = Math.min(firstMs * 2 ** this.#turn, longestMs);
    // Beyond this it would be infinite, and infinity times zero is no number.
    this.#turn = Math.min(this.#turn + 1, 1000);
    return failure.retryAfterMs ?? limit * this.#random();
  }
}

/**
 * Whether the same call may succeed a little later. Calls that carry a request id, and those that change
 * nothing, can then be made again without harm.
 */
export function isPassing({ code, reason }: Failure): boolean {
  switch (code) {
    case Code.Unavailable:
      return true;
    // The server's own errors have a reason; others can come of a connection that is cut.
    case Code.Unknown:
      return reason === Reason.None;
    // It was sent away at the door: nothing was done.
    case Code.ResourceExhausted:
      return reason === Reason.RateLimited || reason === Reason.Overloaded;
    default:
      return false;
  }
}

/** Where a call stands when an attempt has failed. */
export interface Attempt {
  /** Which it was, from 1. */
  readonly attempt: number;
  /** How many there may be. */
  readonly attempts: number;
  /** How long the wait would be, in milliseconds. */
  readonly waitMs: number;
  /** What is left of the call's time, in milliseconds. */
  readonly leftMs: number;
}

/** Whether a call that failed is made again. A wait that its time leaves no room for is not begun. */
export function callsAgain(failure: Failure, { attempt, attempts, waitMs, leftMs }: Attempt): boolean {
  return isPassing(failure) && attempt < attempts && waitMs <= leftMs;
}

/** What WaitRelease takes if it is not told, and the most that it takes, in milliseconds. */
const WAIT_DEFAULT_MS = 30_000;
const WAIT_MAX_MS = 60_000;

/** How much longer than another call WaitRelease may take, in milliseconds. */
export function longerWaitMs(maxWaitMs: number | undefined): number {
  if (maxWaitMs === undefined || maxWaitMs < 0) return WAIT_DEFAULT_MS;
  return Math.min(maxWaitMs, WAIT_MAX_MS);
}

/** What the end of a stream leads to. */
export type After =
  /** Wait, and open it again behind the last position. */
  | 'resume'
  /** Begin with a snapshot. */
  | 'restart'
  /** Nothing can be done. */
  | 'fail';

/** Where a watch stands when a stream of it has ended. */
export interface Standing {
  /** Something was delivered, or is resumed from. */
  readonly hasPosition: boolean;
  /** Another credential may be had than the one that was sent. */
  readonly canRenew: boolean;
  /** How often in a row the credential was refused before. */
  readonly refusals: number;
}

/** A credential is renewed so often before the watch fails. */
const RENEWALS_MAX = 2;

/**
 * The one table. UNKNOWN, INTERNAL, CANCELLED and RESOURCE_EXHAUSTED lead to another attempt because
 * transports make them: a cut connection shows as UNKNOWN, a peer that is overwhelmed as RESOURCE_EXHAUSTED.
 */
export function afterEnd({ code, reason }: Failure, { hasPosition, canRenew, refusals }: Standing): After {
  switch (code) {
    case Code.OutOfRange:
      // A message above the size that a client takes: it would come again.
      if (reason === Reason.None) return 'fail';
      // One that fails without any position would fail again at once: wait.
      return hasPosition ? 'restart' : 'resume';
    case Code.FailedPrecondition:
      return reason === Reason.StoreReplaced && hasPosition ? 'restart' : 'resume';
    case Code.Unauthenticated:
      return canRenew && refusals < RENEWALS_MAX ? 'resume' : 'fail';
    case Code.NotFound:
    case Code.InvalidArgument:
    case Code.PermissionDenied:
    case Code.Unimplemented:
      return 'fail';
    default:
      return 'resume';
  }
}
