// The testbed's flags as Phasegate's, as far as Phasegate can say them.
//
// A flag of the testbed answers anything, by any JsonLogic. One of Phasegate's answers a boolean or an
// object, by rules. What rules can say is translated: conditions on attributes with `if`, `and`, `or`, `==`,
// `!=`, `in`, `starts_with`, `ends_with` and two comparisons of `sem_ver`. For everything else there is a
// reason, and none is stretched: a text does not become an object that holds it.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TESTBED } from './packages.mjs';

const read = (path) => JSON.parse(readFileSync(join(TESTBED, path), 'utf8'));

/** Several files as one, as the testbed makes its `allFlags.json`. */
function merged(paths) {
  const files = paths.map(read);
  const all = (key) => Object.assign({}, ...files.map((file) => file[key]));
  return { flags: all('flags'), $evaluators: all('$evaluators'), metadata: all('metadata') };
}

const files = readdirSync(join(TESTBED, 'flags')).filter((name) => name.endsWith('.json')).sort();
const isApart = (name) => name.startsWith('selector-');

/**
 * For each suite its sources of flags, by the names that scenarios select them by; without one the first is
 * meant. A source is an environment of Phasegate.
 */
const SOURCES = {
  evaluator: { 'evaluator/flags/testkit-flags.json': read('evaluator/flags/testkit-flags.json') },
  provider: {
    'flags/allFlags.json': merged(files.filter((name) => !isApart(name)).map((name) => `flags/${name}`)),
    ...Object.fromEntries(files.filter(isApart).map((name) => [`rawflags/${name}`, read(`flags/${name}`)])),
  },
};

/** Something that rules cannot say. */
class CannotBeSaid extends Error {}

function environmentOf(source, { metadata }) {
  const name = metadata?.flagSetId ?? source.replace(/^.*\/|\.json$/g, '');
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

const isLiteral = (logic) => ['string', 'number', 'boolean'].includes(typeof logic);

/** The attribute that `var` reads. */
function attributeOf(logic) {
  const [name] = [logic?.var].flat();
  if (typeof name !== 'string') throw new CannotBeSaid('a condition without an attribute');
  if (name.startsWith('$flagd.')) throw new CannotBeSaid(`a condition on ${name}`);
  if (name.includes('.')) throw new CannotBeSaid('a condition on a member of an attribute');
  return name;
}

/** A condition on an attribute, as the only one of the only alternative. */
function condition(logic, operator, values) {
  if (!values.every(isLiteral)) throw new CannotBeSaid('a condition that compares with no constant');
  return [[{ attribute: attributeOf(logic), operator: `CONDITION_OPERATOR_${operator}`, values: values.map(String) }]];
}

const EQUAL = { '==': 'IN', '===': 'IN', '!=': 'NOT_IN', '!==': 'NOT_IN' };
const VERSIONS = { '<': 'SEMVER_LESS', '>=': 'SEMVER_GREATER_OR_EQUAL' };

/** A condition of JsonLogic: a list of alternatives, each a list of conditions that all have to hold. */
function alternatives(logic) {
  const [[operator, argument]] = Object.entries(logic);
  const [left, right, third] = [argument].flat();
  switch (operator) {
    case 'or':
      return argument.flatMap(alternatives);
    case 'and':
      return argument.map(alternatives)
        .reduce((all, next) => all.flatMap((some) => next.map((more) => [...some, ...more])));
    case '==': case '===': case '!=': case '!==':
      return isLiteral(left) ? condition(right, EQUAL[operator], [left]) : condition(left, EQUAL[operator], [right]);
    case 'in':
      return Array.isArray(right) ? condition(left, 'IN', right) : condition(right, 'CONTAINS', [left]);
    case 'starts_with': case 'ends_with':
      if (typeof right !== 'string') throw new CannotBeSaid(`${operator} without a text`);
      return condition(left, operator.toUpperCase(), [right]);
    case 'sem_ver':
      if (!VERSIONS[right]) throw new CannotBeSaid(`sem_ver with ${right}`);
      return condition(left, VERSIONS[right], [third]);
    case 'fractional':
      throw new CannotBeSaid(SHARE);
    default:
      throw new CannotBeSaid(`a condition with ${operator}`);
  }
}

// Rules have shares too. But who is inside follows from the salt, and theirs is none of the testbed's.
const SHARE = 'a share with another salt than the flag\'s name';

/** The rules that targeting amounts to, each the alternatives of its condition and the name of its variant. */
function rulesOf(logic) {
  const [[operator, argument] = []] = Object.entries(logic ?? {});
  if (operator === undefined) return [];
  if (operator === 'fractional') throw new CannotBeSaid(SHARE);
  if (operator !== 'if') throw new CannotBeSaid(`targeting that is ${operator}, and not if`);
  const rules = [];
  for (let at = 0; at + 1 < argument.length; at += 2) {
    if (isLiteral(argument[at])) throw new CannotBeSaid('a condition that is a constant');
    rules.push([alternatives(argument[at]), argument[at + 1]]);
  }
  const last = argument.length % 2 === 1 ? argument.at(-1) : null;
  if (last === null) return rules;
  // For everyone who is left; not the default, because the reason is another one.
  return typeof last === 'object' ? [...rules, ...rulesOf(last)] : [...rules, [[[]], last]];
}

/** Targeting with `$ref` resolved. */
function resolved(logic, evaluators) {
  if (Array.isArray(logic)) return logic.map((part) => resolved(part, evaluators));
  if (logic === null || typeof logic !== 'object') return logic;
  if (logic.$ref) {
    if (!evaluators?.[logic.$ref]) throw new CannotBeSaid('a reference to an evaluator that is not there');
    return evaluators[logic.$ref];
  }
  return Object.fromEntries(Object.entries(logic).map(([key, part]) => [key, resolved(part, evaluators)]));
}

const KINDS = { string: 'texts', number: 'numbers' };

/** A flag's spec, and everything for which there is none. */
function translate(flag, source) {
  const reasons = new Set();
  const { variants, defaultVariant, state } = flag;
  const values = Object.values(variants);
  for (const value of values) if (KINDS[typeof value]) reasons.add(KINDS[typeof value]);
  if (state !== 'ENABLED') reasons.add('the state DISABLED');
  if (defaultVariant === undefined || defaultVariant === null) reasons.add('no default variant');
  if (Object.keys(flag.metadata ?? {}).length > 0) reasons.add('metadata of the flag\'s own');
  if (Object.keys(source.metadata ?? {}).some((key) => key !== 'flagSetId')) reasons.add('metadata of the set\'s own');
  let rules = [];
  try {
    rules = rulesOf(resolved(flag.targeting, source.$evaluators)).flatMap(([all, variant], number) => {
      if (!(variant in variants)) throw new CannotBeSaid('targeting that yields no variant');
      return all.map((some, nth) => (
        { targeting: { id: `r${number}-${nth}`, conditions: some }, value: variants[variant] }
      ));
    });
  } catch (problem) {
    if (!(problem instanceof CannotBeSaid)) throw problem;
    reasons.add(problem.message);
  }
  if (reasons.size > 0) return { reasons: [...reasons] };
  const spec = { rules, defaultValue: variants[defaultVariant] };
  return { spec: typeof values[0] === 'boolean' ? { featureGate: spec } : { dynamicConfig: spec } };
}

/** A suite's flags as Phasegate has them. */
class World {
  #environments = new Map();
  #flags = new Map();

  constructor(sources) {
    for (const [name, source] of Object.entries(sources)) {
      const environment = environmentOf(name, source);
      this.#environments.set(name, environment);
      for (const [key, flag] of Object.entries(source.flags)) {
        const known = this.#flags.get(key) ?? new Map();
        this.#flags.set(key, known.set(environment, translate(flag, source)));
      }
    }
  }

  /** The environment that a scenario selects by the name of a source. */
  environment(selector = [...this.#environments.keys()][0]) { return this.#environments.get(selector); }

  /** Why a flag cannot be said, the most important reason first; none if it can, or if there is no such flag. */
  reasons(key, environment) {
    const known = this.#flags.get(key);
    const [any] = known?.values() ?? [];
    return (known?.get(environment) ?? any)?.reasons ?? [];
  }

  /** Whether the testbed has a flag where a scenario asks for it. */
  has(key, environment) { return this.#flags.get(key)?.has(environment) ?? false; }

  /** Whether all that a flag's rules and its default answer is the same. */
  isConstant(key) {
    const { spec } = this.#translated(key);
    const { rules, defaultValue } = spec.featureGate ?? spec.dynamicConfig;
    return rules.every(({ value }) => value === defaultValue);
  }

  /** All flags and why they cannot be said. */
  get flags() {
    return [...this.#flags].map(([key, known]) => [key, [...known.values()].map(({ reasons = [] }) => reasons)]);
  }

  /** The flags that can be said, and the environments, for `apply`. */
  get documents() {
    const flags = [...this.#flags.keys()].filter((key) => this.#translated(key))
      .map((key) => ({ kind: 'Flag', name: `flags/${key}`, ...this.#translated(key).spec }));
    // Environments are what something names.
    const pipeline = {
      kind: 'Pipeline', name: 'pipelines/sources', exemptEnvironments: [...this.#environments.values()],
      phases: [{ id: 'everyone', rules: [{ id: 'all' }] }],
    };
    return [pipeline, ...flags].map((document) => JSON.stringify(document)).join('\n---\n');
  }

  /** What a flag is, of those sources in which it can be said. A flag has one spec for all environments. */
  #translated(key) {
    const said = [...this.#flags.get(key).values()].filter(({ spec }) => spec);
    if (said.length > 1) throw new Error(`${key} is in ${said.length} sources`);
    return said[0];
  }
}

export const WORLDS = Object.fromEntries(
  Object.entries(SOURCES).map(([suite, sources]) => [suite, new World(sources)]),
);
