// The watch of the audit chain.

import {
  type AuditEntry,
  AuditService,
  type WatchAuditEntriesRequestSchema,
  type WatchAuditEntriesResponse,
  type WatchAuditEntriesResponseSchema,
} from '../gen/phasegate/v1/audit_service_pb.js';
import { Position } from './position.js';
import type { Subject, Taken } from './resume.js';
import type { Connectivity } from './watch.js';

/** The next entry. */
export interface AuditEntryAdded {
  readonly type: 'entry';
  /** The entry. */
  readonly entry: AuditEntry;
  /** Everything up to here is delivered. */
  readonly position: Position;
}

/** Nothing happened, at least every 15 s. For those who store positions. */
export interface AuditBookmark {
  readonly type: 'bookmark';
  /** Everything up to here is delivered. */
  readonly position: Position;
}

/**
 * What a watch of the audit chain tells. The `revision` of a position is the number of an entry. After
 * `restarted` the whole chain of the other store follows.
 */
export type AuditUpdate = AuditEntryAdded | AuditBookmark | Connectivity;

type FromServer = Exclude<AuditUpdate, Connectivity>;

/**
 * The chain, for ever.
 *
 * @internal
 */
export class Chain
  implements
    Subject<typeof WatchAuditEntriesRequestSchema, typeof WatchAuditEntriesResponseSchema, FromServer>
{
  readonly method = AuditService.method.watchAuditEntries;

  begin({ revision, storeId }: Position) {
    return { afterSequence: revision, storeId };
  }

  take({ entry, sequence, storeId }: WatchAuditEntriesResponse): Taken<FromServer> {
    const position = new Position({ revision: sequence, storeId });
    if (entry === undefined) return { position, update: { type: 'bookmark', position } };
    return { position, update: { type: 'entry', entry, position } };
  }

  /** The chain never ends. */
  async isOver(): Promise<boolean> {
    return false;
  }
}
