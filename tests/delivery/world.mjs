// What is released in the tests, and who asks.

/** Beta users, then a quarter, then a half, then everyone; in production alone until the last. */
export const PIPELINE = `
kind: Pipeline
name: pipelines/delivery
exemptEnvironments: [dev]
phases:
  - id: early
    rules:
      - {id: tier, environments: [prod], conditions: [{attribute: tier, operator: CONDITION_OPERATOR_IN, values: [beta]}]}
      - {id: seats, environments: [prod], conditions: [{attribute: seats, operator: CONDITION_OPERATOR_GREATER_OR_EQUAL, values: ["100"]}]}
      - {id: staff, environments: [prod], conditions: [{attribute: staff, operator: CONDITION_OPERATOR_IN, values: ["true"]}]}
      - {id: app, environments: [prod], conditions: [{attribute: app, operator: CONDITION_OPERATOR_SEMVER_GREATER_OR_EQUAL, values: [2.1.0]}]}
    bakeDuration: 600s
  - id: quarter
    rules: [{id: quarter, environments: [prod], rolloutBasisPoints: 2500}]
    bakeDuration: 600s
  - id: half
    rules: [{id: half, environments: [prod], rolloutBasisPoints: 5000}]
    bakeDuration: 600s
  - id: everyone
    rules: [{id: all}]
    bakeDuration: 600s
`;

export const ENVIRONMENTS = ['prod', 'staging', 'dev'];

const OLD = { model: 'classic', boost: 1, safe: true };
const NEW = { model: 'blended', boost: 1.5, safe: false, limits: { perPage: 20, sort: ['price', 'rating'] } };
const EU = { model: 'classic-eu', boost: 0.5, safe: true };

export const FLAGS = `
kind: Flag
name: flags/checkout
pipeline: pipelines/delivery
featureGate: {defaultValue: false}
---
kind: Flag
name: flags/search
pipeline: pipelines/delivery
dynamicConfig:
  rules: [{targeting: {id: eu, conditions: [{attribute: region, operator: CONDITION_OPERATOR_STARTS_WITH, values: [eu-]}]}, value: ${JSON.stringify(EU)}}]
  defaultValue: ${JSON.stringify(OLD)}
`;

/** A gate without a pipeline, which is changed by applying it. */
export const gate = (id, truth) => `
kind: Flag
name: flags/${id}
featureGate: {defaultValue: ${truth}}
`;

export const turn = (truth) => `
kind: Release
flag: flags/checkout
featureGate: {defaultValue: ${truth}}
`;

export const SEARCH = `
kind: Release
flag: flags/search
dynamicConfig: {defaultValue: ${JSON.stringify(NEW)}}
`;

/** Who asks; \`early\` are those that the first phase covers. */
export const CONTEXTS = [
  { name: 'anonymous', context: {} },
  { name: 'anonymous beta', context: { tier: 'beta' }, early: true },
  { name: 'plain', context: { targetingKey: 'u-plain', tier: 'free' } },
  { name: 'beta', context: { targetingKey: 'u-beta', tier: 'beta' }, early: true },
  { name: 'many seats', context: { targetingKey: 'u-seats', seats: 120 }, early: true },
  { name: 'few seats', context: { targetingKey: 'u-few', seats: 99.5 } },
  { name: 'seats as text', context: { targetingKey: 'u-text', seats: '120' } },
  { name: 'staff', context: { targetingKey: 'u-staff', staff: true }, early: true },
  { name: 'no staff', context: { targetingKey: 'u-none', staff: false } },
  { name: 'new app', context: { targetingKey: 'u-app', app: '2.10.0' }, early: true },
  { name: 'europe', context: { targetingKey: 'u-eu', region: 'eu-west' } },
  {
    name: 'nested',
    context: { targetingKey: 'u-nested', tier: { name: 'beta' }, staff: [true], org: { plan: { name: 'pro', seats: 500 } } },
  },
];

/** Two hundred users with nothing but a key. */
export const CROWD = Array.from({ length: 200 }, (_, index) => ({ targetingKey: `user-${index}` }));

/** What the spec of each flag answers before any release, and what the change does. */
export const SPECS = {
  checkout: { old: () => false, new: () => true },
  search: { old: (context) => (`${context.region ?? ''}`.startsWith('eu-') ? EU : OLD), new: () => NEW },
};

/** The question for a flag. */
export const question = (flag, context) => (flag === 'search'
  ? { flag, type: 'object', default: { model: 'none' }, context }
  : { flag, type: 'boolean', default: false, context });
