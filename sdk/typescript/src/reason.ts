// What a call failed for, in the words of the contract.

/**
 * What a call failed for: the values of `phasegate.v1.ErrorReason`, as they are on the wire. A newer server
 * may send others; an error keeps those as the text they are.
 */
export const Reason = {
  /** The server gave none: the transport, a proxy, or this client made the error. */
  None: '',
  /** Fields of the request, see `violations` of the error. */
  InvalidField: 'INVALID_FIELD',
  /** `reason` is mandatory for this call. */
  ReasonRequired: 'REASON_REQUIRED',
  /** The request id was used before, for something else. */
  RequestIdReused: 'REQUEST_ID_REUSED',
  /** The page token does not belong to this listing. */
  InvalidPageToken: 'INVALID_PAGE_TOKEN',
  /** `metadata.resource` does not exist. */
  ResourceNotFound: 'RESOURCE_NOT_FOUND',
  /** `metadata.resource` exists. */
  ResourceExists: 'RESOURCE_EXISTS',
  /** The resource changed since it was read. */
  EtagMismatch: 'ETAG_MISMATCH',
  /** Who triggered a release may not approve it. */
  SelfApproval: 'SELF_APPROVAL',
  /** The caller is in none of the phase's reviewer groups. */
  NotAnApprover: 'NOT_AN_APPROVER',
  /** `metadata.referrer` stands in the way. */
  ResourceInUse: 'RESOURCE_IN_USE',
  /** `metadata.activeRelease` is changing the flag. */
  FlagLocked: 'FLAG_LOCKED',
  /** The flag changes along `metadata.pipeline` only. */
  PipelineRequired: 'PIPELINE_REQUIRED',
  /** `metadata.activeRelease` comes first. */
  ActiveReleaseExists: 'ACTIVE_RELEASE_EXISTS',
  /** As many releases of the flag wait as may. */
  QueueFull: 'QUEUE_FULL',
  /** The flag's spec is no longer the one that the change was made from. */
  BaseChanged: 'BASE_CHANGED',
  /** The flag says this already. */
  NoChange: 'NO_CHANGE',
  /** The release is over. */
  ReleaseOver: 'RELEASE_OVER',
  /** The release is pending. */
  ReleaseNotStarted: 'RELEASE_NOT_STARTED',
  /** The release is paused. */
  ReleasePaused: 'RELEASE_PAUSED',
  /** The release was paused before. */
  AlreadyPaused: 'ALREADY_PAUSED',
  /** The release is not paused. */
  NotPaused: 'NOT_PAUSED',
  /** The release stands at another phase. */
  PhaseNotCurrent: 'PHASE_NOT_CURRENT',
  /** The phase needs no approval now. */
  PhaseNotAwaitingApproval: 'PHASE_NOT_AWAITING_APPROVAL',
  /** The phase waits for no window. */
  PhaseNotAwaitingWindow: 'PHASE_NOT_AWAITING_WINDOW',
  /** The phase does not bake. */
  PhaseNotBaking: 'PHASE_NOT_BAKING',
  /** The caller approved this phase before. */
  AlreadyReviewed: 'ALREADY_REVIEWED',
  /** Approvals are missing for `metadata.phaseIds`. */
  ApprovalPending: 'APPROVAL_PENDING',
  /** The windows of `metadata.phaseIds` are closed. */
  WindowClosed: 'WINDOW_CLOSED',
  /** The log no longer reaches back so far. */
  RevisionCompacted: 'REVISION_COMPACTED',
  /** The store was never there. */
  RevisionInFuture: 'REVISION_IN_FUTURE',
  /** The store is another one than before. */
  StoreReplaced: 'STORE_REPLACED',
  /** A watcher did not read. */
  SlowConsumer: 'SLOW_CONSUMER',
  /** As many watches are open as may. */
  TooManyWatches: 'TOO_MANY_WATCHES',
  /** A watch reached its age. */
  StreamExpired: 'STREAM_EXPIRED',
  /** The server is stopping. */
  ServerDraining: 'SERVER_DRAINING',
  /** The server cannot write now: it is starting, or its disk is full. */
  StoreReadOnly: 'STORE_READ_ONLY',
  /** The flags of an environment would not fit into a message. */
  FlagSetTooLarge: 'FLAG_SET_TOO_LARGE',
  /** A defect of the server; `metadata.incident` stands in its log. */
  Internal: 'INTERNAL',
  /** No credential, or one that is not or no longer good. */
  Unauthenticated: 'UNAUTHENTICATED',
  /** The caller lacks `metadata.permission`. */
  PermissionMissing: 'PERMISSION_MISSING',
  /** What the caller may see is another set now. */
  ViewChanged: 'VIEW_CHANGED',
  /** The caller makes more calls than its share. */
  RateLimited: 'RATE_LIMITED',
  /** The server does as much at a time as it may. */
  Overloaded: 'OVERLOADED',
} as const;

/** One of {@link Reason}, or what a newer server calls it. */
export type Reason = (typeof Reason)[keyof typeof Reason] | (string & {});

/** The status codes of gRPC, in its spelling. */
export const Code = {
  /** The caller ended it. */
  Cancelled: 'CANCELLED',
  /** Nobody knows. */
  Unknown: 'UNKNOWN',
  /** The request is wrong, whatever the state of the server. */
  InvalidArgument: 'INVALID_ARGUMENT',
  /** Not answered in time. */
  DeadlineExceeded: 'DEADLINE_EXCEEDED',
  /** Something that was named does not exist. */
  NotFound: 'NOT_FOUND',
  /** Something that was to be made exists. */
  AlreadyExists: 'ALREADY_EXISTS',
  /** The caller may not do this. */
  PermissionDenied: 'PERMISSION_DENIED',
  /** A limit is reached. */
  ResourceExhausted: 'RESOURCE_EXHAUSTED',
  /** The state does not allow it. */
  FailedPrecondition: 'FAILED_PRECONDITION',
  /** Somebody else was quicker. */
  Aborted: 'ABORTED',
  /** Beyond what there is. */
  OutOfRange: 'OUT_OF_RANGE',
  /** The server has no such call. */
  Unimplemented: 'UNIMPLEMENTED',
  /** A defect. */
  Internal: 'INTERNAL',
  /** The server was not reached, or cannot answer now. */
  Unavailable: 'UNAVAILABLE',
  /** Data is lost. */
  DataLoss: 'DATA_LOSS',
  /** The server does not know who calls. */
  Unauthenticated: 'UNAUTHENTICATED',
} as const;

/** One of {@link Code}. */
export type Code = (typeof Code)[keyof typeof Code];
