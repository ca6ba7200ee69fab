// A watch, as its consumer has it.

import type { PhasegateError } from '../error.js';
import type { PositionInit } from './position.js';

/** How a watch begins and ends. */
export interface WatchOptions {
  /** Go on behind this position of an earlier watch of the same, without a snapshot if the log allows. */
  readonly from?: PositionInit | undefined;
  /**
   * Ends the watch when it is aborted: with an error of the code `CANCELLED`, which has the signal's reason as
   * its `cause`. A loop that is left with `break` needs no signal.
   */
  readonly signal?: AbortSignal | undefined;
}

/** The stream broke, and is about to be resumed. Nothing is lost. */
export interface Interrupted {
  readonly type: 'interrupted';
  /** How it ended. */
  readonly error: PhasegateError;
}

/** The stream that was interrupted is open again; what was missed comes now, if anything was. */
export interface Resumed {
  readonly type: 'resumed';
}

/**
 * The log no longer reaches back to what was seen last, or the store is another one. Forget what was seen:
 * everything begins anew. Events in between are not delivered.
 */
export interface Restarted {
  readonly type: 'restarted';
  /** Why. */
  readonly error: PhasegateError;
}

/** What every watch tells of its connection. */
export type Connectivity = Interrupted | Resumed | Restarted;

/**
 * A watch: a stream of updates that resumes by itself, for `for await`.
 *
 * It ends when what it watches is over, or with the one error that it cannot recover from, such as a release
 * that does not exist. Leaving the loop ends it on the server too; one that is never iterated is never
 * opened. An update is taken from the server only when it is asked for, so a consumer may be slow; one that
 * stops for a minute finds the stream resumed.
 */
export class Watch<Update> implements AsyncIterableIterator<Update> {
  readonly #stop = new AbortController();
  readonly #updates: AsyncGenerator<Update, void>;

  /** Made by a client. `updates` ends without an error once the signal that it is handed is aborted. */
  constructor(updates: (stop: AbortSignal) => AsyncGenerator<Update, void>) {
    this.#updates = updates(this.#stop.signal);
  }

  /** The next update. */
  next(): Promise<IteratorResult<Update, undefined>> {
    return this.#updates.next() as Promise<IteratorResult<Update, undefined>>;
  }

  /** Ends the watch, on the server too. An update that is awaited meanwhile comes as the end. */
  async return(): Promise<IteratorResult<Update, undefined>> {
    this.#stop.abort();
    await this.#updates.return();
    return { done: true, value: undefined };
  }

  /** Itself: a watch is iterated once. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}
