// The loop that keeps a watch going: over lost connections, restarts of the server, and a log that was cut.
//
// No generated client resumes a stream: once headers have arrived, gRPC retries end. What each end of a
// stream means is decided in `decisions`. The position is the last revision that was delivered, so nothing
// is lost and nothing comes twice.

import type {
  DescMessage,
  DescMethodServerStreaming,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import type { Caller } from '../calls.js';
import { afterEnd, Backoff } from '../decisions.js';
import { fromTransport, PhasegateError } from '../error.js';
import type { Seat } from '../link.js';
import { Code } from '../reason.js';
import { cancelled, Linked, pause, within } from '../waiting.js';
import { beginning, Position } from './position.js';
import { type Connectivity, Watch, type WatchOptions } from './watch.js';

/** What is watched. */
export interface Subject<I extends DescMessage, O extends DescMessage, Update> {
  readonly method: DescMethodServerStreaming<I, O>;

  /** The request behind a position. Whatever does not reach up to it is forgotten. */
  begin(from: Position): MessageInitShape<I>;

  /** Takes a message in. */
  take(message: MessageShape<O>): Taken<Update>;

  /** Whether an end with OK is the end of the watch. */
  isOver(signal: AbortSignal): Promise<boolean>;
}

/** A message that was taken in. */
export interface Taken<Update> {
  /** Where to resume from now on. */
  readonly position: Position;
  /** What to hand on, if anything. */
  readonly update: Update | undefined;
}

/** A watch of the subject. */
export function watch<I extends DescMessage, O extends DescMessage, Update>(
  caller: Caller,
  subject: Subject<I, O, Update>,
  { from, signal }: WatchOptions,
): Watch<Update | Connectivity> {
  const position = from === undefined ? beginning : new Position(from);
  return new Watch((stop) => watching(caller, subject, position, stop, signal));
}

async function* watching<I extends DescMessage, O extends DescMessage, Update>(
  caller: Caller,
  subject: Subject<I, O, Update>,
  from: Position,
  stop: AbortSignal,
  signal: AbortSignal | undefined,
): AsyncGenerator<Update | Connectivity, void> {
  const interest = new Linked(stop, signal, caller.closed);
  try {
    yield* resuming(caller, subject, from, interest.signal);
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    interest.release();
  }
}

async function* resuming<I extends DescMessage, O extends DescMessage, Update>(
  caller: Caller,
  subject: Subject<I, O, Update>,
  from: Position,
  signal: AbortSignal,
): AsyncGenerator<Update | Connectivity, void> {
  if (signal.aborted) throw cancelled(signal);
  let position = from;
  const backoff = new Backoff(caller.settings.retry);
  let isLost = false;
  let refusals = 0;
  // One place for the whole life of the watch, so that it comes back to the same connection.
  const seat = caller.link.seat();
  try {
    for (;;) {
      const stream = new Stream(caller, seat, subject, position, signal);
      let error: PhasegateError;
      try {
        await stream.open();
        // Said now, because the first message may be a bookmark that is many seconds away.
        if (isLost) yield { type: 'resumed' };
        isLost = false;
        for (;;) {
          const message = await stream.next();
          if (message === undefined) break;
          backoff.reset();
          refusals = 0;
          const taken = subject.take(message);
          position = taken.position;
          if (taken.update !== undefined) yield taken.update;
        }
        if (await subject.isOver(signal)) return;
        error = new PhasegateError(Code.Unavailable, 'the server ended the watch before its time');
      } catch (thrown) {
        if (signal.aborted) throw cancelled(signal);
        error = fromTransport(thrown);
      } finally {
        stream.leave();
      }
      const { canRenew } = caller.credential;
      const after = afterEnd(error, { hasPosition: !position.isBeginning, canRenew, refusals });
      if (after === 'fail') throw error;
      if (after === 'restart') {
        position = beginning;
        yield { type: 'restarted', error };
        continue;
      }
      if (error.code === Code.Unauthenticated) refusals += 1;
      const waitMs = backoff.next(error);
      isLost = true;
      yield { type: 'interrupted', error };
      await pause(waitMs, signal);
    }
  } finally {
    seat.leave();
  }
}

/** One stream of a watch. */
class Stream<I extends DescMessage, O extends DescMessage, Update> {
  readonly #caller: Caller;
  readonly #seat: Seat;
  readonly #method: DescMethodServerStreaming<I, O>;
  readonly #request: MessageInitShape<I>;
  readonly #interest: Linked;
  #messages: AsyncIterator<MessageShape<O>> | undefined;

  constructor(
    caller: Caller,
    seat: Seat,
    subject: Subject<I, O, Update>,
    from: Position,
    signal: AbortSignal,
  ) {
    this.#caller = caller;
    this.#seat = seat;
    this.#method = subject.method;
    this.#request = subject.begin(from);
    this.#interest = new Linked(signal);
  }

  /** Opens it. A watch has no deadline. */
  async open(): Promise<void> {
    const opening = async (): Promise<void> => {
      const headers = await this.#caller.signature();
      const { transport } = this.#seat;
      const signal = this.#interest.signal;
      const request = one(this.#request);
      const response = await transport.stream(this.#method, signal, 0, headers, request);
      this.#messages = response.message[Symbol.asyncIterator]();
    };
    await this.#heard(opening());
  }

  /** The next message; none at an end with OK. */
  async next(): Promise<MessageShape<O> | undefined> {
    if (this.#messages === undefined) throw new Error('a stream is opened before it is read');
    const result = await this.#heard(this.#messages.next());
    return result.done === true ? undefined : result.value;
  }

  /** Ends it, on the server too. */
  leave(): void {
    this.#interest.release();
  }

  #heard<T>(work: Promise<T>): Promise<T> {
    const late = () => new PhasegateError(Code.Unavailable, 'the server was silent for too long');
    return within(work, { ms: this.#caller.settings.silenceMs, late }, this.#interest.signal);
  }
}

async function* one<T>(message: T): AsyncIterable<T> {
  yield message;
}
