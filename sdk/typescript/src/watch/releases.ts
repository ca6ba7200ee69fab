// The watch of all releases that match a filter.

import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Release } from '../gen/phasegate/v1/release_pb.js';
import {
  type ReleaseChange,
  type ReleaseFilterSchema,
  ReleaseService,
  type WatchReleasesRequestSchema,
  type WatchReleasesResponse,
  type WatchReleasesResponseSchema,
} from '../gen/phasegate/v1/release_service_pb.js';
import { beginning, Position } from './position.js';
import type { Bookmark, Delivered } from './release.js';
import type { Subject, Taken } from './resume.js';
import type { Connectivity } from './watch.js';

/**
 * All releases that match, as of one revision. Replaces whatever was known before. Comes first, unless the
 * watch was resumed, and after `restarted`.
 */
export interface ReleasesSnapshot extends Delivered {
  readonly type: 'snapshot';
  /** The releases, without `change` and `pipelineSnapshot`. */
  readonly releases: readonly Release[];
}

/** What one or several whole commits did, in order. */
export interface ReleasesChanged extends Delivered {
  readonly type: 'changes';
  /** Each with the release after it, and whether it stopped matching. */
  readonly changes: readonly ReleaseChange[];
}

/** What a watch of releases tells. */
export type ReleasesUpdate = ReleasesSnapshot | ReleasesChanged | Bookmark | Connectivity;

type FromServer = Exclude<ReleasesUpdate, Connectivity>;

/**
 * All releases that match, for ever.
 *
 * @internal
 */
export class Matching
  implements Subject<typeof WatchReleasesRequestSchema, typeof WatchReleasesResponseSchema, FromServer>
{
  readonly method = ReleaseService.method.watchReleases;
  readonly #filter: MessageInitShape<typeof ReleaseFilterSchema>;
  /** What has come of the set so far; none once it is complete. Until then nothing can be resumed from. */
  #initial: Release[] | undefined = [];

  constructor(filter: MessageInitShape<typeof ReleaseFilterSchema>) {
    this.#filter = filter;
  }

  begin({ revision, storeId }: Position) {
    this.#initial = revision === 0n ? [] : undefined;
    return { resumeAfterRevision: revision, storeId, filter: this.#filter };
  }

  take({
    revision,
    storeId,
    serverTime,
    initial,
    synced,
    changes,
  }: WatchReleasesResponse): Taken<FromServer> {
    const position = new Position({ revision, storeId });
    const delivered = { position, serverTime };
    if (this.#initial !== undefined) {
      const releases = this.#initial;
      releases.push(...initial);
      if (!synced) return { position: beginning, update: undefined };
      this.#initial = undefined;
      return { position, update: { type: 'snapshot', releases, ...delivered } };
    }
    if (changes.length === 0) return { position, update: { type: 'bookmark', ...delivered } };
    return { position, update: { type: 'changes', changes, ...delivered } };
  }

  /** The server never says that all releases there will ever be are over. */
  async isOver(): Promise<boolean> {
    return false;
  }
}
