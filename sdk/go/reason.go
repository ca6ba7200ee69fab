package phasegate

// Reason is what a call failed for: a value of phasegate.v1.ErrorReason without its prefix. One that this client is
// too old to know keeps its name.
type Reason string

const (
	// ReasonNone: the server gave none. The transport, a proxy, or this client made the error.
	ReasonNone Reason = ""
	// ReasonInvalidField: fields of the request, see [Error.Violations].
	ReasonInvalidField Reason = "INVALID_FIELD"
	// ReasonReasonRequired: the field reason is mandatory for this call.
	ReasonReasonRequired Reason = "REASON_REQUIRED"
	// ReasonRequestIDReused: the request id was used before, for something else.
	ReasonRequestIDReused Reason = "REQUEST_ID_REUSED"
	// ReasonInvalidPageToken: the page token does not belong to this listing.
	ReasonInvalidPageToken Reason = "INVALID_PAGE_TOKEN"
	// ReasonResourceNotFound: Metadata["resource"] does not exist.
	ReasonResourceNotFound Reason = "RESOURCE_NOT_FOUND"
	// ReasonResourceExists: Metadata["resource"] exists.
	ReasonResourceExists Reason = "RESOURCE_EXISTS"
	// ReasonEtagMismatch: the resource changed since it was read.
	ReasonEtagMismatch Reason = "ETAG_MISMATCH"
	// ReasonSelfApproval: who triggered a release may not approve it.
	ReasonSelfApproval Reason = "SELF_APPROVAL"
	// ReasonNotAnApprover: the caller is in none of the phase's reviewer groups.
	ReasonNotAnApprover Reason = "NOT_AN_APPROVER"
	// ReasonResourceInUse: Metadata["referrer"] stands in the way.
	ReasonResourceInUse Reason = "RESOURCE_IN_USE"
	// ReasonFlagLocked: Metadata["activeRelease"] is changing the flag.
	ReasonFlagLocked Reason = "FLAG_LOCKED"
	// ReasonPipelineRequired: the flag changes along Metadata["pipeline"] only.
	ReasonPipelineRequired Reason = "PIPELINE_REQUIRED"
	// ReasonActiveReleaseExists: Metadata["activeRelease"] comes first.
	ReasonActiveReleaseExists Reason = "ACTIVE_RELEASE_EXISTS"
	// ReasonQueueFull: as many releases of the flag wait as may.
	ReasonQueueFull Reason = "QUEUE_FULL"
	// ReasonBaseChanged: the flag's spec is no longer the one that the change was made from.
	ReasonBaseChanged Reason = "BASE_CHANGED"
	// ReasonNoChange: the flag says this already.
	ReasonNoChange Reason = "NO_CHANGE"
	// ReasonReleaseOver: the release is over.
	ReasonReleaseOver Reason = "RELEASE_OVER"
	// ReasonReleaseNotStarted: the release is pending.
	ReasonReleaseNotStarted Reason = "RELEASE_NOT_STARTED"
	// ReasonReleasePaused: the release is paused.
	ReasonReleasePaused Reason = "RELEASE_PAUSED"
	// ReasonAlreadyPaused: the release was paused before.
	ReasonAlreadyPaused Reason = "ALREADY_PAUSED"
	// ReasonNotPaused: the release is not paused.
	ReasonNotPaused Reason = "NOT_PAUSED"
	// ReasonPhaseNotCurrent: the release stands at another phase.
	ReasonPhaseNotCurrent Reason = "PHASE_NOT_CURRENT"
	// ReasonPhaseNotAwaitingApproval: the phase needs no approval now.
	ReasonPhaseNotAwaitingApproval Reason = "PHASE_NOT_AWAITING_APPROVAL"
	// ReasonPhaseNotAwaitingWindow: the phase waits for no window.
	ReasonPhaseNotAwaitingWindow Reason = "PHASE_NOT_AWAITING_WINDOW"
	// ReasonPhaseNotBaking: the phase does not bake.
	ReasonPhaseNotBaking Reason = "PHASE_NOT_BAKING"
	// ReasonAlreadyReviewed: the caller approved this phase before.
	ReasonAlreadyReviewed Reason = "ALREADY_REVIEWED"
	// ReasonApprovalPending: approvals are missing for Metadata["phaseIds"].
	ReasonApprovalPending Reason = "APPROVAL_PENDING"
	// ReasonWindowClosed: the windows of Metadata["phaseIds"] are closed.
	ReasonWindowClosed Reason = "WINDOW_CLOSED"
	// ReasonRevisionCompacted: the log no longer reaches back so far.
	ReasonRevisionCompacted Reason = "REVISION_COMPACTED"
	// ReasonRevisionInFuture: the store was never there.
	ReasonRevisionInFuture Reason = "REVISION_IN_FUTURE"
	// ReasonStoreReplaced: the store is another one than before.
	ReasonStoreReplaced Reason = "STORE_REPLACED"
	// ReasonSlowConsumer: a watcher did not read.
	ReasonSlowConsumer Reason = "SLOW_CONSUMER"
	// ReasonTooManyWatches: as many watches are open as may.
	ReasonTooManyWatches Reason = "TOO_MANY_WATCHES"
	// ReasonStreamExpired: a watch reached its age.
	ReasonStreamExpired Reason = "STREAM_EXPIRED"
	// ReasonServerDraining: the server is stopping.
	ReasonServerDraining Reason = "SERVER_DRAINING"
	// ReasonStoreReadOnly: the server cannot write now. It is starting, or its disk is full.
	ReasonStoreReadOnly Reason = "STORE_READ_ONLY"
	// ReasonInternal: a defect of the server; its log has Metadata["incident"].
	ReasonInternal Reason = "INTERNAL"
	// ReasonFlagSetTooLarge: the flags of an environment would not fit into a message.
	ReasonFlagSetTooLarge Reason = "FLAG_SET_TOO_LARGE"
	// ReasonUnauthenticated: there is no credential, or it is not or no longer good.
	ReasonUnauthenticated Reason = "UNAUTHENTICATED"
	// ReasonPermissionMissing: the permission Metadata["permission"] is missing.
	ReasonPermissionMissing Reason = "PERMISSION_MISSING"
	// ReasonViewChanged: what the caller may see is another set than before.
	ReasonViewChanged Reason = "VIEW_CHANGED"
	// ReasonRateLimited: the caller makes more calls than its share.
	ReasonRateLimited Reason = "RATE_LIMITED"
	// ReasonOverloaded: the server does as much at a time as it may.
	ReasonOverloaded Reason = "OVERLOADED"
)
