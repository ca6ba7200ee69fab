// Proto JSON of what the SDK gives, and what it takes.

import { createRegistry, fromJson, type JsonValue, type Message, toJson } from '@bufbuild/protobuf';
import { file_google_protobuf_timestamp } from '@bufbuild/protobuf/wkt';
import { PhasegateError, Position, v1 } from '@phasegate/client';
import { file_phasegate_rehearsal_v1_clock } from '../src/gen/phasegate/rehearsal/v1/clock_pb.js';

const registry = createRegistry(
  v1.file_phasegate_v1_access_service,
  v1.file_phasegate_v1_audit_service,
  v1.file_phasegate_v1_flag,
  v1.file_phasegate_v1_notification_service,
  v1.file_phasegate_v1_pipeline,
  v1.file_phasegate_v1_release,
  v1.file_phasegate_v1_release_service,
  v1.file_phasegate_v1_targeting,
  file_phasegate_rehearsal_v1_clock,
  // Of updates: the server's time.
  file_google_protobuf_timestamp,
);

/** Proto JSON of a message, whichever it is. */
export function messageJson(message: Message): JsonValue {
  const schema = registry.getMessage(message.$typeName);
  if (schema === undefined) throw new Error(`${message.$typeName} is not known`);
  return toJson(schema, message, { registry });
}

/** A filter out of its proto JSON. */
export function filterFromJson(json: object): v1.ReleaseFilter {
  return fromJson(v1.ReleaseFilterSchema, json as JsonValue);
}

/** An update: its members are messages, lists of them, positions and errors. */
export function updateJson(update: object): Record<string, unknown> {
  const members = Object.entries(update).filter(([, value]) => value !== undefined);
  return Object.fromEntries(members.map(([name, value]) => [name, memberJson(value)]));
}

function memberJson(value: unknown): unknown {
  if (value instanceof PhasegateError) return errorJson(value);
  if (value instanceof Position) return value.toJSON();
  if (Array.isArray(value)) return value.map(memberJson);
  return typeof value === 'object' && value !== null && '$typeName' in value
    ? messageJson(value as Message)
    : value;
}

/** An error; whatever is none of the SDK's makes no sense. */
export function errorJson(thrown: unknown): object {
  if (thrown instanceof PhasegateError) {
    const { code, reason, metadata, violations } = thrown;
    // For people who look for why a scenario fails: nothing compares it.
    const message = thrown.rawMessage;
    return { code, reason, metadata, fields: violations.map(({ field }) => field), message };
  }
  return {
    code: 'RUNNER',
    message: String(thrown),
  };
}
