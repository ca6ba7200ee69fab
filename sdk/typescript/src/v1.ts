// The messages and enums of phasegate.v1, as they are generated.

export * from './gen/phasegate/v1/access_service_pb.js';
export * from './gen/phasegate/v1/audit_service_pb.js';
export * from './gen/phasegate/v1/errors_pb.js';
export * from './gen/phasegate/v1/flag_pb.js';
export * from './gen/phasegate/v1/notification_service_pb.js';
export * from './gen/phasegate/v1/pipeline_pb.js';
export * from './gen/phasegate/v1/release_pb.js';
export * from './gen/phasegate/v1/release_service_pb.js';
export * from './gen/phasegate/v1/targeting_pb.js';
