// The methods of the API by their names, as methods of the SDK.

import { create, type DescMessage, fromJson, type JsonValue, type Message } from '@bufbuild/protobuf';
import { DurationSchema, type Timestamp } from '@bufbuild/protobuf/wkt';
import { type Client, v1 } from '@phasegate/client';
import { GetResponseSchema } from '../src/gen/phasegate/rehearsal/v1/clock_pb.js';
import { messageJson } from './json.js';

/** Methods that take a request: the RPC's name but for its first letter. */
const WITH_REQUEST = [
  'createFlag',
  'listFlags',
  'updateFlag',
  'deleteFlag',
  'setKillSwitch',
  'evaluateFlag',
  'createPipeline',
  'listPipelines',
  'updatePipeline',
  'deletePipeline',
  'triggerRelease',
  'listReleases',
  'listReleaseEvents',
  'approvePhase',
  'rejectPhase',
  'pauseRelease',
  'unpauseRelease',
  'skipPhase',
  'overrideWindow',
  'adjustBake',
  'abortRelease',
  'fullRollout',
  'reportGuardSignal',
  'waitRelease',
  'listAuditEntries',
  'listDeadLetters',
  'replayDeadLetters',
] as const;

type Request = Readonly<Record<string, JsonValue>>;
type Made = (client: Client, request: Request) => Promise<Message | undefined>;

/** What the clock says, as the response that it came in. */
async function response(now: Promise<Timestamp>): Promise<Message> {
  return create(GetResponseSchema, { now: await now });
}

/** A method of the client that takes the request of this RPC. */
function withRequest(method: (typeof WITH_REQUEST)[number] | 'planRelease', rpc: string): Made {
  const schema = (v1 as unknown as Record<string, DescMessage>)[`${rpc}RequestSchema`];
  if (schema === undefined) throw new Error(`there is no request of ${rpc}`);
  return (client, request) => {
    const call = client[method].bind(client) as (request: Message) => Promise<Message | undefined>;
    return call(fromJson(schema, request));
  };
}

const name = ({ name }: Request): string => String(name ?? '');

const CALLS: Readonly<Record<string, Made>> = {
  ...Object.fromEntries(
    WITH_REQUEST.map((method) => {
      const rpc = method.replace(/^./, (first) => first.toUpperCase());
      return [rpc, withRequest(method, rpc)];
    }),
  ),
  PlanRelease: withRequest('planRelease', 'TriggerRelease'),
  GetFlag: (client, request) => client.getFlag(name(request)),
  GetPipeline: (client, request) => client.getPipeline(name(request)),
  GetRelease: (client, request) => client.getRelease(name(request)),
  GetIdentity: (client) => client.identity(),
  GetAuditHead: (client) => client.getAuditHead(),
  ListSinks: (client) => client.listSinks(),
  SendTestNotification: (client, { sink }) => client.sendTestNotification(String(sink ?? '')),
  ClockNow: (client) => response(client.clockNow()),
  AdvanceClock: (client, { duration = '0s' }) =>
    response(client.advanceClock(fromJson(DurationSchema, duration))),
};

/** Makes a call; what it gives as proto JSON, `{}` if that is nothing. None if there is no such method. */
export function makeCall(client: Client, method: string, request: object): Promise<JsonValue> | undefined {
  const make = Object.hasOwn(CALLS, method) ? CALLS[method] : undefined;
  if (make === undefined) return undefined;
  return make(client, request as Request).then((message) =>
    message === undefined ? {} : messageJson(message),
  );
}
