package phasegate

import (
	"time"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// Position is a place in the log: everything up to it was delivered. It is what is needed to go on from there, also in
// another process. The zero Position is the beginning.
type Position struct {
	// Revision is the last one that was delivered; 0 begins with a snapshot. Of the audit chain, the number of an
	// entry.
	Revision int64
	// StoreID is the store whose revision it is. Another one has other revisions.
	StoreID string
}

// ReleaseUpdate is what a watch of one release tells: [ReleaseSnapshot], [ReleaseChange], [Bookmark], [Interrupted],
// [Resumed] or [Restarted]. There may be more kinds in later versions: leave those alone.
type ReleaseUpdate interface{ releaseUpdate() }

// ReleasesUpdate is what a watch of many releases tells: [ReleasesSnapshot], [ReleasesChanges], [Bookmark],
// [Interrupted], [Resumed] or [Restarted]. There may be more kinds in later versions: leave those alone.
type ReleasesUpdate interface{ releasesUpdate() }

// AuditUpdate is what a watch of the audit chain tells: [AuditEntry], [Bookmark], [Interrupted], [Resumed] or
// [Restarted]. There may be more kinds in later versions: leave those alone.
type AuditUpdate interface{ auditUpdate() }

// ReleaseSnapshot is the release as it is. Comes first, unless the watch was resumed, and after Restarted.
type ReleaseSnapshot struct {
	// Release has its change and pipeline_snapshot.
	Release *v1.Release
	// Position: everything up to here is delivered.
	Position Position
	// ServerTime is the clock of the server: count its timers down by this, not by the clock at hand.
	ServerTime time.Time
}

// ReleaseChange is what one commit did to the release.
type ReleaseChange struct {
	// Release is the release after it, without change and pipeline_snapshot.
	Release *v1.Release
	// Events are what happened, in order.
	Events []*v1.ReleaseEvent
	// Position: everything up to here is delivered.
	Position Position
	// ServerTime is the clock of the server.
	ServerTime time.Time
}

// ReleasesSnapshot is all releases that match, as of one revision. Replaces whatever was known before. Comes first,
// unless the watch was resumed, and after Restarted.
type ReleasesSnapshot struct {
	// Releases are without change and pipeline_snapshot.
	Releases []*v1.Release
	// Position: everything up to here is delivered.
	Position Position
	// ServerTime is the clock of the server: count its timers down by this, not by the clock at hand.
	ServerTime time.Time
}

// ReleasesChanges is what one or several whole commits did, in order.
type ReleasesChanges struct {
	// Changes have each the release after it, and whether it stopped matching.
	Changes []*v1.ReleaseChange
	// Position: everything up to here is delivered.
	Position Position
	// ServerTime is the clock of the server.
	ServerTime time.Time
}

// AuditEntry is the next entry of the audit chain.
type AuditEntry struct {
	// Entry is the entry.
	Entry *v1.AuditEntry
	// Position: everything up to here is delivered.
	Position Position
}

// Bookmark says that nothing happened, at least every 15 s. For those who store positions.
type Bookmark struct {
	// Position: everything up to here is delivered.
	Position Position
	// ServerTime is the clock of the server; zero in a watch of the audit chain.
	ServerTime time.Time
}

// Interrupted says that the stream broke, and is about to be resumed. Nothing is lost.
type Interrupted struct {
	// Err is how it broke.
	Err *Error
}

// Resumed says that the stream which was interrupted is open again; what was missed comes now, if anything was.
type Resumed struct{}

// Restarted says that the log no longer reaches back to what was seen last, or that the store is another one. Forget
// what was seen; a snapshot follows, or the whole audit chain. Events in between are not delivered.
type Restarted struct {
	// Err is why; its reason says which of the two it is.
	Err *Error
}

func (ReleaseSnapshot) releaseUpdate()   {}
func (ReleaseChange) releaseUpdate()     {}
func (ReleasesSnapshot) releasesUpdate() {}
func (ReleasesChanges) releasesUpdate()  {}
func (AuditEntry) auditUpdate()          {}

func (Bookmark) releaseUpdate()     {}
func (Bookmark) releasesUpdate()    {}
func (Bookmark) auditUpdate()       {}
func (Interrupted) releaseUpdate()  {}
func (Interrupted) releasesUpdate() {}
func (Interrupted) auditUpdate()    {}
func (Resumed) releaseUpdate()      {}
func (Resumed) releasesUpdate()     {}
func (Resumed) auditUpdate()        {}
func (Restarted) releaseUpdate()    {}
func (Restarted) releasesUpdate()   {}
func (Restarted) auditUpdate()      {}
