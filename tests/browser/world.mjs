// Flags, pipelines and releases that tests put on their servers.

/** Staging, then Europe after approvals, then everyone within a window; Fridays are closed. */
export const STANDARD = `
kind: Pipeline
name: pipelines/standard
description: Staging, then Europe, then everyone.
triggerNotice: Goes out to production. Tell whoever is on call.
exemptEnvironments: [dev]
phases:
  - id: staging
    rules: [{id: all, environments: [staging]}]
    bakeDuration: 1800s
    guards: [{id: error-rate, onFail: GUARD_ACTION_PAUSE}]
  - id: prod-eu
    approval: {minApprovals: 2, quotas: [{group: sre, minApprovals: 1}], expiry: 86400s}
    rules: [{id: tenth, environments: [prod-eu], rolloutBasisPoints: 1000}]
    bakeDuration: 3600s
  - id: everyone
    rules: [{id: all}]
    windows: {timeZone: Europe/Rome, weekly: [{days: [MON, TUE, WED, THU], start: "09:00", end: "16:00"}]}
    bakeDuration: 3600s
`;

/** Two phases that ask nobody. */
export const PLAIN = `
kind: Pipeline
name: pipelines/plain
description: A tenth, then everyone.
phases:
  - id: tenth
    rules: [{id: tenth, environments: [prod], rolloutBasisPoints: 1000}]
    bakeDuration: 1800s
  - id: everyone
    rules: [{id: all}]
    bakeDuration: 1800s
`;

/** One phase that one person has to approve. */
export const GATED = `
kind: Pipeline
name: pipelines/gated
phases:
  - id: everyone
    approval: {minApprovals: 1}
    rules: [{id: all}]
    bakeDuration: 600s
`;

/** A gate that is off. */
export const gate = (id, pipeline, description = '') => `
kind: Flag
name: flags/${id}
description: ${JSON.stringify(description)}
pipeline: pipelines/${pipeline}
featureGate: {defaultValue: false}
`;

/** A release that turns a gate on. */
export const turnOn = (flag, description = '', labels = {}) => `
kind: Release
flag: flags/${flag}
description: ${JSON.stringify(description)}
labels: ${JSON.stringify(labels)}
featureGate: {defaultValue: true}
`;

/** Several documents in one. */
export const all = (...documents) => documents.join('\n---\n');

let count = 0;

/** A new flag with a release under way along a pipeline: the release's id, which is the flag's too. */
export async function underWay(server, pipeline, { by = 'ann', description = '' } = {}) {
  count += 1;
  const id = `f${count}-${pipeline}`;
  await server.apply(gate(id, pipeline));
  await server.trigger(turnOn(id, description), '--id', id, '--as', by);
  return id;
}

/** The same, brought to where its second phase awaits approval. */
export async function awaitingApproval(server, by = 'ann') {
  const id = await underWay(server, 'standard', { by });
  await server.pg('release', 'skip', id, 'staging', '--as', by);
  return id;
}

/** The same, brought to where its last phase awaits its window. */
export async function awaitingWindow(server, by = 'ann') {
  const id = await awaitingApproval(server, by);
  await server.pg('release', 'skip', id, 'prod-eu', '--bypass-approval', '--reason', 'urgent', '--as', by);
  return id;
}
