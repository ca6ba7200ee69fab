// The watch of one release.

import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Release, ReleaseEvent } from '../gen/phasegate/v1/release_pb.js';
import {
  ReleaseService,
  type WatchReleaseRequestSchema,
  type WatchReleaseResponse,
  type WatchReleaseResponseSchema,
} from '../gen/phasegate/v1/release_service_pb.js';
import { Position } from './position.js';
import type { Subject, Taken } from './resume.js';
import type { Connectivity } from './watch.js';

/** What every update from the server has. */
export interface Delivered {
  /** Everything up to here is delivered. */
  readonly position: Position;
  /** Clock of the server: count its timers down by this, not by the clock at hand. */
  readonly serverTime: Timestamp | undefined;
}

/**
 * The release as it is, with its `change` and `pipelineSnapshot`. Comes first, unless the watch was resumed,
 * and after `restarted`.
 */
export interface ReleaseSnapshot extends Delivered {
  readonly type: 'snapshot';
  /** The release. */
  readonly release: Release;
}

/** What one commit did. */
export interface ReleaseChanged extends Delivered {
  readonly type: 'change';
  /** The release after it, without `change` and `pipelineSnapshot`. */
  readonly release: Release;
  /** What happened, in order. */
  readonly events: readonly ReleaseEvent[];
}

/** Nothing happened, at least every 15 s. For those who store positions. */
export interface Bookmark extends Delivered {
  readonly type: 'bookmark';
}

/** What a watch of one release tells. */
export type ReleaseUpdate = ReleaseSnapshot | ReleaseChanged | Bookmark | Connectivity;

type FromServer = Exclude<ReleaseUpdate, Connectivity>;

/**
 * One release, to its end.
 *
 * @internal
 */
export class OneRelease
  implements Subject<typeof WatchReleaseRequestSchema, typeof WatchReleaseResponseSchema, FromServer>
{
  readonly method = ReleaseService.method.watchRelease;
  readonly #name: string;
  readonly #get: (signal: AbortSignal) => Promise<Release>;
  /** The last release that was seen is over. */
  #ended = false;

  constructor(name: string, get: (signal: AbortSignal) => Promise<Release>) {
    this.#name = name;
    this.#get = get;
  }

  begin({ revision, storeId }: Position) {
    return { name: this.#name, resumeAfterRevision: revision, storeId };
  }

  take({ revision, storeId, serverTime, release, events }: WatchReleaseResponse): Taken<FromServer> {
    const position = new Position({ revision, storeId });
    const delivered = { position, serverTime };
    if (release === undefined) return { position, update: { type: 'bookmark', ...delivered } };
    this.#ended = release.endTime !== undefined;
    if (events.length === 0) return { position, update: { type: 'snapshot', release, ...delivered } };
    return { position, update: { type: 'change', release, events, ...delivered } };
  }

  /** OK after a resumption at or behind the end comes without a release: the server is asked. */
  async isOver(signal: AbortSignal): Promise<boolean> {
    if (!this.#ended) this.#ended = (await this.#get(signal)).endTime !== undefined;
    return this.#ended;
  }
}
