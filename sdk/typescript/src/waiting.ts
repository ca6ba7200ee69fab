// Waiting that ends early when it is no longer of interest.

import { PhasegateError } from './error.js';
import { Code } from './reason.js';

/** What a call or a watch fails with that was ended by its caller. */
export function cancelled(signal: AbortSignal): PhasegateError {
  const reason: unknown = signal.reason;
  if (reason instanceof PhasegateError) return reason;
  return new PhasegateError(Code.Cancelled, 'ended by the caller', { cause: reason });
}

/**
 * Who follows which signal. Each signal has one listener of ours, however many calls share it: Node warns of a
 * leak when it has more than ten.
 */
const followed = new WeakMap<AbortSignal, Set<AbortController>>();

function onAbort(this: AbortSignal): void {
  for (const follower of followed.get(this) ?? []) follower.abort(this.reason);
}

function follow(signal: AbortSignal, follower: AbortController): void {
  const followers = followed.get(signal) ?? new Set();
  followed.set(signal, followers);
  if (followers.size === 0) signal.addEventListener('abort', onAbort);
  followers.add(follower);
}

function unfollow(signal: AbortSignal, follower: AbortController): void {
  const followers = followed.get(signal);
  followers?.delete(follower);
  if (followers?.size === 0) signal.removeEventListener('abort', onAbort);
}

/** A controller that is aborted with any of the signals, until it is let go. */
export class Linked extends AbortController {
  readonly #signals: readonly AbortSignal[];

  constructor(...signals: (AbortSignal | undefined)[]) {
    super();
    this.#signals = signals.filter((signal) => signal !== undefined);
    for (const signal of this.#signals) {
      if (signal.aborted) this.abort(signal.reason);
      follow(signal, this);
    }
  }

  /** Aborts what is still going on, and leaves the signals alone. */
  release(): void {
    for (const signal of this.#signals) unfollow(signal, this);
    this.abort();
  }
}

/** What the work comes to; fails early when the signal is aborted, and with `late()` after so long. */
export async function within<T>(
  work: Promise<T>,
  limit: { ms: number; late: () => PhasegateError },
  signal: AbortSignal,
): Promise<T> {
  // What it comes to after that concerns nobody.
  work.catch(() => {});
  if (signal.aborted) throw cancelled(signal);
  const end = deferred();
  const onAbort = (): void => end.reject(cancelled(signal));
  signal.addEventListener('abort', onAbort);
  const timer = setTimeout(() => end.reject(limit.late()), limit.ms);
  try {
    return await Promise.race([work, end.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** What a timer can be set to at most, in milliseconds. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Lets so many milliseconds pass; fails early when the signal is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw cancelled(signal);
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(cancelled(signal));
    };
    const timer = setTimeout(
      () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      },
      Math.min(ms, TIMER_MAX_MS),
    );
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

function deferred(): { promise: Promise<never>; reject: (error: unknown) => void } {
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<never>((_, rejected) => {
    reject = rejected;
  });
  return { promise, reject };
}
