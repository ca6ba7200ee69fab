// The client: every call of the API, and the watches.

import {
  clone,
  create,
  type DescMessage,
  type DescMethodUnary,
  isMessage,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { type DurationSchema, durationMs, type Timestamp } from '@bufbuild/protobuf/wkt';
import type { Caller, CallTerms } from './calls.js';
import { longerWaitMs } from './decisions.js';
import { incomplete } from './error.js';
import { ClockService } from './gen/phasegate/rehearsal/v1/clock_pb.js';
import { AccessService, type GetIdentityResponse } from './gen/phasegate/v1/access_service_pb.js';
import * as audit from './gen/phasegate/v1/audit_service_pb.js';
import * as flag from './gen/phasegate/v1/flag_pb.js';
import * as notification from './gen/phasegate/v1/notification_service_pb.js';
import * as pipeline from './gen/phasegate/v1/pipeline_pb.js';
import type { Release } from './gen/phasegate/v1/release_pb.js';
import * as release from './gen/phasegate/v1/release_service_pb.js';
import type { CallOptions } from './options.js';
import { uuid } from './uuid.js';
import { type AuditUpdate, Chain } from './watch/audit.js';
import { OneRelease, type ReleaseUpdate } from './watch/release.js';
import { Matching, type ReleasesUpdate } from './watch/releases.js';
import { watch } from './watch/resume.js';
import type { Watch, WatchOptions } from './watch/watch.js';

/** A request as it is written: any of its fields. */
type Init<Schema extends DescMessage> = MessageInitShape<Schema>;

/** A request that can be repeated under an id. */
type Mutation = { requestId: string };

/**
 * A client that calls by this caller. Only `connect` makes one, so that the types of the transport are none of
 * the package's.
 *
 * @internal
 */
export let clientOf: (caller: Caller) => Client;

/**
 * A client of one server. Made by `connect`; share it. A connection that is lost is made again when it is next
 * needed.
 *
 * Every method fails with {@link PhasegateError} only. Calls that change something get a `requestId` unless
 * they have one, and are made again while that may help, within `timeoutMs`.
 */
export class Client {
  readonly #caller: Caller;

  private constructor(caller: Caller) {
    this.#caller = caller;
  }

  static {
    clientOf = (caller) => new Client(caller);
  }

  /** Ends everything that is going on, with the code `CANCELLED`, and all connections. */
  close(): void {
    this.#caller.close();
  }

  // Flags

  /** Creates a flag. Its first spec needs no release. */
  async createFlag(
    request: Init<typeof flag.CreateFlagRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.Flag> {
    const answer = await this.#change(flag.FlagService.method.createFlag, request, options);
    return present('flag', answer.flag);
  }

  /** Checks everything that `createFlag` checks, and creates nothing. */
  planCreateFlag(
    request: Init<typeof flag.CreateFlagRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.CreateFlagResponse> {
    const planned = { ...request, validateOnly: true };
    return this.#change(flag.FlagService.method.createFlag, planned, options);
  }

  /** Returns one flag, by its name `flags/{flag}`. */
  async getFlag(name: string, options?: CallOptions): Promise<flag.Flag> {
    const answer = await this.#caller.call(flag.FlagService.method.getFlag, { name }, options);
    return present('flag', answer.flag);
  }

  /** Returns a page of flags, by name. */
  listFlags(
    request: Init<typeof flag.ListFlagsRequestSchema> = {},
    options?: CallOptions,
  ): Promise<flag.ListFlagsResponse> {
    return this.#caller.call(flag.FlagService.method.listFlags, request, options);
  }

  /** Changes fields of a flag; its spec only as far as no release is needed. */
  async updateFlag(
    request: Init<typeof flag.UpdateFlagRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.Flag> {
    const answer = await this.#change(flag.FlagService.method.updateFlag, request, options);
    return present('flag', answer.flag);
  }

  /** Checks everything that `updateFlag` checks, and changes nothing. */
  planUpdateFlag(
    request: Init<typeof flag.UpdateFlagRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.UpdateFlagResponse> {
    const planned = { ...request, validateOnly: true };
    return this.#change(flag.FlagService.method.updateFlag, planned, options);
  }

  /** Deletes a flag for good. */
  async deleteFlag(request: Init<typeof flag.DeleteFlagRequestSchema>, options?: CallOptions): Promise<void> {
    await this.#change(flag.FlagService.method.deleteFlag, request, options);
  }

  /** Engages or lifts the kill switch. `engaged` must be said. */
  async setKillSwitch(
    request: Init<typeof flag.SetKillSwitchRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.Flag> {
    const answer = await this.#change(flag.FlagService.method.setKillSwitch, request, options);
    return present('flag', answer.flag);
  }

  /** Answers for one context, and says why. */
  evaluateFlag(
    request: Init<typeof flag.EvaluateFlagRequestSchema>,
    options?: CallOptions,
  ): Promise<flag.EvaluateFlagResponse> {
    return this.#caller.call(flag.FlagService.method.evaluateFlag, request, options);
  }

  // Pipelines

  /** Creates a pipeline. */
  async createPipeline(
    request: Init<typeof pipeline.CreatePipelineRequestSchema>,
    options?: CallOptions,
  ): Promise<pipeline.Pipeline> {
    const answer = await this.#change(pipeline.PipelineService.method.createPipeline, request, options);
    return present('pipeline', answer.pipeline);
  }

  /** Checks everything that `createPipeline` checks, and creates nothing. */
  planCreatePipeline(
    request: Init<typeof pipeline.CreatePipelineRequestSchema>,
    options?: CallOptions,
  ): Promise<pipeline.CreatePipelineResponse> {
    const planned = { ...request, validateOnly: true };
    return this.#change(pipeline.PipelineService.method.createPipeline, planned, options);
  }

  /** Returns one pipeline, by its name `pipelines/{pipeline}`. */
  async getPipeline(name: string, options?: CallOptions): Promise<pipeline.Pipeline> {
    const answer = await this.#caller.call(pipeline.PipelineService.method.getPipeline, { name }, options);
    return present('pipeline', answer.pipeline);
  }

  /** Returns a page of pipelines, by name. */
  listPipelines(
    request: Init<typeof pipeline.ListPipelinesRequestSchema> = {},
    options?: CallOptions,
  ): Promise<pipeline.ListPipelinesResponse> {
    return this.#caller.call(pipeline.PipelineService.method.listPipelines, request, options);
  }

  /** Changes fields of a pipeline. Releases under way keep their copy. */
  async updatePipeline(
    request: Init<typeof pipeline.UpdatePipelineRequestSchema>,
    options?: CallOptions,
  ): Promise<pipeline.Pipeline> {
    const answer = await this.#change(pipeline.PipelineService.method.updatePipeline, request, options);
    return present('pipeline', answer.pipeline);
  }

  /** Checks everything that `updatePipeline` checks, and changes nothing. */
  planUpdatePipeline(
    request: Init<typeof pipeline.UpdatePipelineRequestSchema>,
    options?: CallOptions,
  ): Promise<pipeline.UpdatePipelineResponse> {
    const planned = { ...request, validateOnly: true };
    return this.#change(pipeline.PipelineService.method.updatePipeline, planned, options);
  }

  /** Deletes a pipeline for good. */
  async deletePipeline(
    request: Init<typeof pipeline.DeletePipelineRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#change(pipeline.PipelineService.method.deletePipeline, request, options);
  }

  // Releases

  /** Starts a release, or makes it pending. */
  async triggerRelease(
    request: Init<typeof release.TriggerReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.triggerRelease, request, options);
    return present('release', answer.release);
  }

  /**
   * Checks everything that `triggerRelease` checks, triggers nothing, and says when each phase would come at the
   * earliest.
   */
  planRelease(
    request: Init<typeof release.TriggerReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<release.TriggerReleaseResponse> {
    const planned = { ...request, validateOnly: true };
    return this.#change(release.ReleaseService.method.triggerRelease, planned, options);
  }

  /** Returns one release, by its name `releases/{release}`. */
  async getRelease(name: string, options?: CallOptions): Promise<Release> {
    const answer = await this.#caller.call(release.ReleaseService.method.getRelease, { name }, options);
    return present('release', answer.release);
  }

  /** Returns a page of releases, newest first. */
  listReleases(
    request: Init<typeof release.ListReleasesRequestSchema> = {},
    options?: CallOptions,
  ): Promise<release.ListReleasesResponse> {
    return this.#caller.call(release.ReleaseService.method.listReleases, request, options);
  }

  /** Returns a page of what happened to one release, or to all with `releases/-`. */
  listReleaseEvents(
    request: Init<typeof release.ListReleaseEventsRequestSchema>,
    options?: CallOptions,
  ): Promise<release.ListReleaseEventsResponse> {
    return this.#caller.call(release.ReleaseService.method.listReleaseEvents, request, options);
  }

  /** Records the caller's approval of the current phase. */
  async approvePhase(
    request: Init<typeof release.ApprovePhaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.approvePhase, request, options);
    return present('release', answer.release);
  }

  /** Rejects the current phase, which ends the release and reverts everything. */
  async rejectPhase(
    request: Init<typeof release.RejectPhaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.rejectPhase, request, options);
    return present('release', answer.release);
  }

  /** Holds a release: exposure stays, timers stand still. */
  async pauseRelease(
    request: Init<typeof release.PauseReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.pauseRelease, request, options);
    return present('release', answer.release);
  }

  /** Ends the hold: timers go on with what they had left. */
  async unpauseRelease(
    request: Init<typeof release.UnpauseReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.unpauseRelease, request, options);
    return present('release', answer.release);
  }

  /** Leaves the current phase for the next. */
  async skipPhase(
    request: Init<typeof release.SkipPhaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.skipPhase, request, options);
    return present('release', answer.release);
  }

  /** Applies the current phase although its window is closed. */
  async overrideWindow(
    request: Init<typeof release.OverrideWindowRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.overrideWindow, request, options);
    return present('release', answer.release);
  }

  /** Sets what is left of the current phase's bake. */
  async adjustBake(
    request: Init<typeof release.AdjustBakeRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.adjustBake, request, options);
    return present('release', answer.release);
  }

  /** Ends the release and reverts everything. */
  async abortRelease(
    request: Init<typeof release.AbortReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.abortRelease, request, options);
    return present('release', answer.release);
  }

  /** Gives the change to everyone now. */
  async fullRollout(
    request: Init<typeof release.FullRolloutRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.fullRollout, request, options);
    return present('release', answer.release);
  }

  /** Reports what an outside system says of a guard. */
  async reportGuardSignal(
    request: Init<typeof release.ReportGuardSignalRequestSchema>,
    options?: CallOptions,
  ): Promise<Release> {
    const answer = await this.#change(release.ReleaseService.method.reportGuardSignal, request, options);
    return present('release', answer.release);
  }

  /**
   * Waits until a release has a later revision than the given one, or is over, or `maxWait` has passed. For
   * scripts; a program watches. May take longer than `timeoutMs` by as much.
   */
  waitRelease(
    request: Init<typeof release.WaitReleaseRequestSchema>,
    options?: CallOptions,
  ): Promise<release.WaitReleaseResponse> {
    const { maxWait } = create(release.WaitReleaseRequestSchema, request);
    const longerMs = longerWaitMs(maxWait && durationMs(maxWait));
    return this.#caller.call(release.ReleaseService.method.waitRelease, request, { ...options, longerMs });
  }

  /**
   * Follows one release to its end: a snapshot, then every change, each once, in order.
   *
   * ```ts
   * for await (const update of phasegate.watchRelease('releases/checkout-v2-1')) {
   *   if (update.type === 'change') console.log(update.events);
   * }
   * console.log('over');
   * ```
   */
  watchRelease(name: string, options: WatchOptions = {}): Watch<ReleaseUpdate> {
    const subject = new OneRelease(name, (signal) => this.getRelease(name, { signal }));
    return watch(this.#caller, subject, options);
  }

  /**
   * Follows all releases that match a filter, for ever: a snapshot of them, then every change, each once, in
   * order. A position is of use with the same filter only.
   */
  watchReleases(
    filter: Init<typeof release.ReleaseFilterSchema> = {},
    options: WatchOptions = {},
  ): Watch<ReleasesUpdate> {
    return watch(this.#caller, new Matching(filter), options);
  }

  // Access

  /** Who this client is to the server, and what it may do there. */
  identity(options?: CallOptions): Promise<GetIdentityResponse> {
    return this.#caller.call(AccessService.method.getIdentity, {}, options);
  }

  // Audit

  /**
   * Returns a page of entries, newest first. A page may be short, or empty, and have a token all the same.
   */
  listAuditEntries(
    request: Init<typeof audit.ListAuditEntriesRequestSchema> = {},
    options?: CallOptions,
  ): Promise<audit.ListAuditEntriesResponse> {
    return this.#caller.call(audit.AuditService.method.listAuditEntries, request, options);
  }

  /** Returns the newest entry as number and hash: an anchor to keep elsewhere. */
  getAuditHead(options?: CallOptions): Promise<audit.GetAuditHeadResponse> {
    return this.#caller.call(audit.AuditService.method.getAuditHead, {}, options);
  }

  /** Follows the audit chain from its beginning, or behind a position, for ever: every entry, once, in order. */
  watchAuditEntries(options: WatchOptions = {}): Watch<AuditUpdate> {
    return watch(this.#caller, new Chain(), options);
  }

  // Notifications

  /** Returns all sinks, and how they are. */
  listSinks(options?: CallOptions): Promise<notification.ListSinksResponse> {
    return this.#caller.call(notification.NotificationService.method.listSinks, {}, options);
  }

  /** Returns a page of what was given up, oldest first. */
  listDeadLetters(
    request: Init<typeof notification.ListDeadLettersRequestSchema>,
    options?: CallOptions,
  ): Promise<notification.ListDeadLettersResponse> {
    return this.#caller.call(notification.NotificationService.method.listDeadLetters, request, options);
  }

  /** Has what was given up sent again. Made again, it does nothing more. */
  replayDeadLetters(
    request: Init<typeof notification.ReplayDeadLettersRequestSchema>,
    options?: CallOptions,
  ): Promise<notification.ReplayDeadLettersResponse> {
    return this.#caller.call(notification.NotificationService.method.replayDeadLetters, request, options);
  }

  /** Sends a test to a sink. Made again after a lost connection, it may arrive twice. */
  sendTestNotification(
    sink: string,
    options?: CallOptions,
  ): Promise<notification.SendTestNotificationResponse> {
    const method = notification.NotificationService.method.sendTestNotification;
    return this.#caller.call(method, { sink }, options);
  }

  // The clock of a rehearsal

  /** What the clock of a rehearsal says. Any other server answers `UNIMPLEMENTED`. */
  async clockNow(options?: CallOptions): Promise<Timestamp> {
    return present('now', (await this.#caller.call(ClockService.method.get, {}, options)).now);
  }

  /**
   * Moves the clock of a rehearsal ahead, and returns what it says then. All that came due on the way is done
   * and on disk.
   *
   * This is the one call that is made once only: made again, it would move the clock twice.
   */
  async advanceClock(by: Init<typeof DurationSchema>, options?: CallOptions): Promise<Timestamp> {
    const terms: CallTerms = { ...options, repeating: 'once' };
    const answer = await this.#caller.call(ClockService.method.advance, { duration: by }, terms);
    return present('now', answer.now);
  }

  /** Makes a call that changes something, under a request id. */
  #change<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    init: MessageInitShape<I>,
    options: CallTerms | undefined,
  ): Promise<MessageShape<O>> {
    // The caller's own message stays as it is.
    const request = isMessage(init, method.input)
      ? clone(method.input, init as MessageShape<I>)
      : create(method.input, init);
    const mutation = request as unknown as Mutation;
    if (mutation.requestId === '') mutation.requestId = uuid();
    return this.#caller.call(method, request as MessageInitShape<I>, options);
  }
}

function present<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw incomplete(field);
  return value;
}
