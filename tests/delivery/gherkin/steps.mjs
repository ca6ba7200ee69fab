// What the steps of scenarios mean, and why a scenario does not pass.
import { isDeepStrictEqual } from 'node:util';
import { PATIENCE, Server } from './stage.mjs';
import { WORLDS } from './translate.mjs';

/** A step that found something else than it wants. */
class Missed extends Error {
  constructor(what, wanted, got) {
    super(`${what} is ${JSON.stringify(got)} and not ${JSON.stringify(wanted)}`);
    Object.assign(this, { what, wanted, got });
  }
}

function expect(what, wanted, got) {
  if (!isDeepStrictEqual(got, wanted)) throw new Missed(what, wanted, got);
}

const TYPES = {
  Boolean: (text) => text === 'true',
  String: (text) => text,
  Integer: Number,
  Float: Number,
  Object: (text) => JSON.parse(text.replaceAll('\\"', '"')),
};

/** Awaits an event that comes after those that were awaited before. */
async function comes(scene, kind) {
  if (kind === 'ready' && scene.lost) {
    // All that should be seen of the loss was seen.
    await scene.server.start();
    scene.lost = undefined;
  }
  const { events } = scene.client;
  const seen = await events.wait(kind, scene.seen, scene.lost ?? AbortSignal.timeout(PATIENCE));
  if (seen === undefined) throw new Missed('event', kind, undefined);
  scene.seen = seen;
}

/** What a step says, and what is done. A scene is what the steps of a scenario share. */
const STEPS = [
  [/^an option "(cache|selector)" of type "\w+" with value "(.*)"$/, () => {}],
  [/^(?:an evaluator|a (?:stable|metadata|syncpayload) flagd provider)$/, async (scene) => {
    const { server: { port }, environment, cache } = scene;
    scene.client = await scene.way.open({ port, environment, cache });
  }],
  [/^an? (\w+)-flag with key "(.*)" and a (?:default|fallback) value "(.*)"$/, (scene, type, key, fallback) => {
    scene.flag = { type, key, fallback: TYPES[type](fallback) };
  }],
  [/^a context containing a key "(.*)", with type "(\w+)" and with value "(.*)"$/, (scene, key, type, value) => {
    scene.context[key] = TYPES[type](value);
  }],
  [/^the flag was evaluated with details$/, async (scene) => {
    const { type, key, fallback } = scene.flag;
    scene.told = await scene.client.evaluate(type, key, fallback, scene.context);
  }],
  [/^the resolved details value should be "(.*)"$/, ({ told, flag }, value) => {
    expect('value', TYPES[flag.type](value), told.value);
  }],
  [/^the reason should be "(.*)"$/, ({ told }, reason) => expect('reason', reason, told.reason)],
  [/^the variant should be "(.*)"$/, ({ told }, variant) => expect('variant', variant, told.variant)],
  [/^the error-code should be "(.*)"$/, ({ told }, code) => expect('error code', code, told.errorCode ?? '')],
  [/^the resolved metadata is empty$/, ({ told }) => expect('metadata', {}, told.metadata)],
  // Every provider keeps its events from its beginning on.
  [/^an? (?:ready|error|stale) event handler$/, () => {}],
  [/^the connection is lost for (\d+)s$/, async (scene, seconds) => {
    scene.seen = scene.client.events.count;
    scene.lostFrom = scene.seen;
    await scene.server.kill();
    scene.lost = AbortSignal.timeout(seconds * 1000);
  }],
  [/^a (\w+) event was fired$/, comes],
  [/^the (\w+) event handler should have been executed$/, comes],
  [/^the (\w+) event handler should not have been executed$/, (scene, kind) => {
    expect(`event ${kind}`, false, scene.client.events.was(kind, scene.lostFrom));
  }],
];

/** What a scenario says of itself before it is run. */
function read({ steps }, pattern) {
  return steps.map(({ text }) => pattern.exec(text)).find((found) => found)?.slice(1) ?? [];
}

/** Why a step did not find what it wants, as far as that is known: everything else is told as it is. */
function explain(missed, { way, world, flag, environment }) {
  const { what, wanted, got } = missed;
  const same = (...those) => isDeepStrictEqual([what, wanted, got], those);
  if (!world.has(flag?.key, environment) && same('reason', 'ERROR', 'STATIC')) {
    return 'a flag is in every environment';
  }
  if (same('reason', 'CACHED', 'STATIC') && !way.caches) return 'the provider keeps no answers';
  if (same('reason', 'CACHED', 'ERROR') && way.caches) {
    return 'the provider forgets its answers when it loses its server';
  }
  const isOfRules = same('reason', 'TARGETING_MATCH', 'STATIC') || same('reason', 'DEFAULT', 'STATIC');
  if (isOfRules && world.isConstant(flag.key)) {
    return 'rules that make no difference count as none, so the reason is STATIC';
  }
  if (what === 'variant' && got === 'default') return 'a variant of a config has the name of its rule';
  if (what === 'metadata' && isDeepStrictEqual(wanted, {})) {
    return 'every answer has metadata: its revision, its environment and the bucketing';
  }
  if (what === 'event' && !way.tells) return 'the provider does not tell that it has lost its server';
  return missed.message;
}

/** Runs a scenario on a way: 'passed', or why not. */
export async function run(scenario, suite, way, shared) {
  const world = WORLDS[suite];
  const [, key] = read(scenario, /^an? (\w+)-flag with key "([^"]*)"/);
  const [selector] = read(scenario, /^an option "selector" .* value "(.*)"$/);
  const [cache] = read(scenario, /^an option "cache" .* value "(.*)"$/);
  const environment = world.environment(selector);
  const [reason] = world.reasons(key, environment);
  if (reason) return `not expressible: ${reason}`;

  // A server that is lost is nobody else's.
  const loses = read(scenario, /^the connection is (lost)/).length > 0;
  const server = loses ? await Server.with(world) : shared;
  const scene = { way, world, server, environment, cache, context: {}, seen: 0 };
  try {
    for (const { text } of scenario.steps) {
      const [pattern, act] = STEPS.find(([step]) => step.test(text)) ?? [];
      if (!act) throw new Error(`nobody knows what this means: ${text}`);
      await act(scene, ...pattern.exec(text).slice(1));
    }
    return 'passed';
  } catch (problem) {
    if (!(problem instanceof Missed)) throw problem;
    return explain(problem, scene);
  } finally {
    await scene.client?.close();
    if (loses) await server.end();
  }
}
