// What both entries offer beside `connect`.

export { Client } from './client.js';
export type { Retry } from './decisions.js';
export { type ErrorFacts, PhasegateError, type Violation } from './error.js';
export type { CallOptions, ConnectOptions } from './options.js';
export { Code, Reason } from './reason.js';
export * as v1 from './v1.js';
export type { AuditBookmark, AuditEntryAdded, AuditUpdate } from './watch/audit.js';
export { Position, type PositionInit } from './watch/position.js';
export type {
  Bookmark,
  Delivered,
  ReleaseChanged,
  ReleaseSnapshot,
  ReleaseUpdate,
} from './watch/release.js';
export type { ReleasesChanged, ReleasesSnapshot, ReleasesUpdate } from './watch/releases.js';
export {
  type Connectivity,
  type Interrupted,
  type Restarted,
  type Resumed,
  Watch,
  type WatchOptions,
} from './watch/watch.js';
