// What a call fails with: one type, which programs decide on by `reason` and people read.

import { durationMs } from '@bufbuild/protobuf/wkt';
import { ConnectError, Code as WireCode } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from './gen/google/rpc/error_details_pb.js';
import { Code, Reason } from './reason.js';

/** The domain of the server's own errors; those of any other are a proxy's. */
const DOMAIN = 'phasegate.v1';

/** One field of a request that is not as it must be. */
export interface Violation {
  /** Its path, in names of the proto files: `release.feature_gate.rules[3].targeting.id`. */
  readonly field: string;
  /** What it must be. */
  readonly description: string;
}

/** What an error says beside its message. */
export interface ErrorFacts {
  /** Default: none. */
  readonly reason?: Reason;
  /** Default: empty. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Default: none. */
  readonly violations?: readonly Violation[];
  /** In milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** What it came of. */
  readonly cause?: unknown;
}

/**
 * Why a call failed.
 *
 * Decide by `reason`, never by the text. `message` is for people: what the server said, each violation, and
 * the reason.
 */
export class PhasegateError extends Error {
  override readonly name = 'PhasegateError';
  /** The status code of gRPC. */
  readonly code: Code;
  /** What went wrong, as programs need it. */
  readonly reason: Reason;
  /** What went wrong, as the server said it. */
  readonly rawMessage: string;
  /**
   * Facts that belong to the reason, such as `state` or `activeRelease`; the keys of each reason are listed
   * in the documentation of errors.
   */
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with the request, if the reason is `INVALID_FIELD`. */
  readonly violations: readonly Violation[];
  /** The server asked to wait so many milliseconds before the call is made again. */
  readonly retryAfterMs: number | undefined;

  /** Made by this library. */
  constructor(code: Code, rawMessage: string, facts: ErrorFacts = {}) {
    const { reason = Reason.None, metadata = {}, violations = [], retryAfterMs, cause } = facts;
    super(shown(code, reason, rawMessage, violations), cause === undefined ? undefined : { cause });
    this.code = code;
    this.reason = reason;
    this.rawMessage = rawMessage;
    this.metadata = metadata;
    this.violations = violations;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the server was not reached, or did not answer: nothing is known about the call. */
  get isUnreachable(): boolean {
    const codes: readonly Code[] = [Code.Unavailable, Code.Unknown, Code.DeadlineExceeded];
    return this.reason === Reason.None && codes.includes(this.code);
  }
}

function shown(code: Code, reason: Reason, message: string, violations: readonly Violation[]): string {
  // The server's message may say them already.
  const unsaid = violations.filter(({ description }) => !message.includes(description));
  const listed = unsaid.map(({ field, description }) => `${field} ${description}`).join('; ');
  return `${message}${listed === '' ? '' : `: ${listed}`} [${reason || code}]`;
}

/** An error as the transport throws it. */
export function fromTransport(thrown: unknown): PhasegateError {
  if (thrown instanceof PhasegateError) return thrown;
  const error = ConnectError.from(thrown);
  const [retry] = error.findDetails(RetryInfoSchema);
  const retryAfterMs = retry?.retryDelay && durationMs(retry.retryDelay);
  const [info] = error.findDetails(ErrorInfoSchema);
  if (info?.domain !== DOMAIN) {
    const answered = error.metadata.has('grpc-status');
    const code = answered ? spelled(error.code) : madeLocally(error);
    const message = described(error) || code.toLowerCase();
    return new PhasegateError(code, message, { retryAfterMs, cause: error });
  }
  const [bad] = error.findDetails(BadRequestSchema);
  const violations = bad?.fieldViolations.map(({ field, description }) => ({ field, description })) ?? [];
  const { reason, metadata } = info;
  const facts = { reason, metadata: { ...metadata }, violations, retryAfterMs, cause: error };
  return new PhasegateError(spelled(error.code), error.rawMessage, facts);
}

/**
 * The code of an error that came without a status of gRPC, so that no server made it. The transport calls a
 * broken connection by many names, of which ABORTED and INTERNAL mean something else to a server.
 */
function madeLocally(error: ConnectError): Code {
  switch (error.code) {
    case WireCode.Aborted:
    case WireCode.Canceled:
    case WireCode.Internal:
    case WireCode.Unknown:
      return Code.Unavailable;
    case WireCode.ResourceExhausted:
      // A message above the size that is read: it would come again. Other clients of gRPC call it so.
      return error.rawMessage.includes('readMaxBytes') ? Code.OutOfRange : Code.ResourceExhausted;
    default:
      return spelled(error.code);
  }
}

const SPELLED: Readonly<Record<WireCode, Code>> = {
  [WireCode.Canceled]: Code.Cancelled,
  [WireCode.Unknown]: Code.Unknown,
  [WireCode.InvalidArgument]: Code.InvalidArgument,
  [WireCode.DeadlineExceeded]: Code.DeadlineExceeded,
  [WireCode.NotFound]: Code.NotFound,
  [WireCode.AlreadyExists]: Code.AlreadyExists,
  [WireCode.PermissionDenied]: Code.PermissionDenied,
  [WireCode.ResourceExhausted]: Code.ResourceExhausted,
  [WireCode.FailedPrecondition]: Code.FailedPrecondition,
  [WireCode.Aborted]: Code.Aborted,
  [WireCode.OutOfRange]: Code.OutOfRange,
  [WireCode.Unimplemented]: Code.Unimplemented,
  [WireCode.Internal]: Code.Internal,
  [WireCode.Unavailable]: Code.Unavailable,
  [WireCode.DataLoss]: Code.DataLoss,
  [WireCode.Unauthenticated]: Code.Unauthenticated,
};

/** A number that is none of the codes can come off the wire. */
function spelled(code: WireCode): Code {
  return SPELLED[code] ?? Code.Unknown;
}

/** An error with all its causes, each said once: the transport says the least in its own message. */
function described(error: ConnectError): string {
  let text = error.rawMessage;
  let cause: unknown = error.cause;
  for (let depth = 0; cause instanceof Error && depth < 8; depth += 1) {
    if (!text.includes(cause.message)) text = text === '' ? cause.message : `${text}: ${cause.message}`;
    cause = cause.cause;
  }
  return text;
}

/** An answer that the contract does not allow. */
export function incomplete(field: string): PhasegateError {
  return new PhasegateError(Code.Internal, `the server's answer lacks \`${field}\``);
}

/** What the caller has to mend before anything can be sent. */
export function wrong(message: string, cause?: unknown): PhasegateError {
  return new PhasegateError(Code.InvalidArgument, message, { cause });
}
