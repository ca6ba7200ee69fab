// One call: made as somebody, again only if that is safe, and not for ever.

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { Backoff, callsAgain } from './decisions.js';
import { fromTransport, PhasegateError } from './error.js';
import type { Link } from './link.js';
import { amount, type CallOptions, type Credential, type Settings } from './options.js';
import { Code } from './reason.js';
import { cancelled, Linked, pause, within } from './waiting.js';

/** How often a call may be made. */
export type Repeating = 'again' | 'once';

/** What is said of a call beside its request. */
export interface CallTerms extends CallOptions {
  /** Default `again`: it changes nothing, or carries a request id. */
  readonly repeating?: Repeating;
  /** The server may take so many milliseconds longer to answer. */
  readonly longerMs?: number;
}

/** Makes the calls of a client. */
export class Caller {
  readonly link: Link;
  readonly settings: Settings;
  readonly credential: Credential;
  readonly #closed = new AbortController();

  constructor(link: Link, settings: Settings, credential: Credential) {
    this.link = link;
    this.settings = settings;
    this.credential = credential;
  }

  /** Aborted once the client is closed. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Ends everything that is going on. */
  close(): void {
    if (this.closed.aborted) return;
    this.#closed.abort(new PhasegateError(Code.Cancelled, 'the client is closed'));
    this.link.close();
  }

  /** Who calls, as metadata. */
  async signature(): Promise<Headers> {
    const headers = new Headers(this.settings.metadata);
    const authorization = await this.credential.value();
    if (authorization !== undefined) headers.set('authorization', authorization);
    return headers;
  }

  /** Makes a call, and again while that may help. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    { signal, timeoutMs, repeating = 'again', longerMs = 0 }: CallTerms = {},
  ): Promise<MessageShape<O>> {
    const time = amount('timeoutMs', timeoutMs ?? this.settings.timeoutMs, 1) + longerMs;
    const deadline = performance.now() + time;
    const message = create(method.input, request);
    const backoff = new Backoff(this.settings.retry);
    const attempts = repeating === 'once' ? 1 : this.settings.retry.attempts;
    const interest = new Linked(signal, this.closed);
    try {
      for (let attempt = 1; ; attempt += 1) {
        if (interest.signal.aborted) throw cancelled(interest.signal);
        try {
          return await this.#attempt(method, message, deadline, interest.signal);
        } catch (thrown) {
          if (interest.signal.aborted) throw cancelled(interest.signal);
          const error = fromTransport(thrown);
          const waitMs = backoff.next(error);
          const leftMs = deadline - performance.now();
          if (!callsAgain(error, { attempt, attempts, waitMs, leftMs })) throw error;
          await pause(waitMs, interest.signal);
        }
      }
    } finally {
      interest.release();
    }
  }

  async #attempt<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    deadline: number,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    const left = (): number => Math.max(1, Math.ceil(deadline - performance.now()));
    const attempt = new Linked(signal);
    const send = async (): Promise<MessageShape<O>> => {
      const headers = await this.signature();
      // The server is told too, so that it need not finish what nobody waits for.
      const init = message as MessageInitShape<I>;
      const response = await this.link.calls.unary(method, attempt.signal, left(), headers, init);
      return response.message;
    };
    const late = () => new PhasegateError(Code.DeadlineExceeded, 'the server did not answer in time');
    try {
      return await within(send(), { ms: left(), late }, attempt.signal);
    } finally {
      attempt.release();
    }
  }
}
