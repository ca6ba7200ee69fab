// Whether an answer is as a scenario says it has to be.

/**
 * What is wrong with an answer, as a text, or nothing.
 *
 * Of an object the named members are looked at; `null` means that it has to be absent, `"*"` that it has to be
 * there, whatever it is. A list has just the named elements, in order. A text that begins with `$` stands for
 * what was kept under that name.
 */
export function mismatch(answer, expected, kept, path = 'answer') {
  if (expected === null) return answer === undefined ? undefined : `${path} is ${JSON.stringify(answer)}, not absent`;
  if (expected === '*') return answer === undefined ? `${path} is absent` : undefined;
  if (Array.isArray(expected)) {
    if (!Array.isArray(answer ?? [])) return `${path} is ${JSON.stringify(answer)}, no list`;
    const given = answer ?? [];
    if (given.length !== expected.length) {
      return `${path} has ${given.length} elements, not ${expected.length}: ${JSON.stringify(given)}`;
    }
    return first(expected.map((each, n) => () => mismatch(given[n], each, kept, `${path}[${n}]`)));
  }
  if (typeof expected === 'object') {
    if (typeof answer !== 'object' || answer === null) return `${path} is ${JSON.stringify(answer)}, no object`;
    return first(Object.entries(expected).map(([name, each]) => () => mismatch(answer[name], each, kept, `${path}.${name}`)));
  }
  const wanted = filled(expected, kept);
  return answer === wanted ? undefined : `${path} is ${JSON.stringify(answer)}, not ${JSON.stringify(wanted)}`;
}

function first(checks) {
  for (const check of checks) {
    const wrong = check();
    if (wrong) return wrong;
  }
  return undefined;
}

/** A value with what was kept in the place of `$names`. */
export function filled(value, kept) {
  if (typeof value === 'string' && value.startsWith('$')) {
    if (!(value.slice(1) in kept)) throw new Error(`nothing was kept as ${value}`);
    return kept[value.slice(1)];
  }
  if (Array.isArray(value)) return value.map((each) => filled(each, kept));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each, kept)]));
  }
  return value;
}

/** What is at a path such as `release.phases.0.phaseId`. */
export function at(value, path) {
  return path.split('.').reduce((inner, name) => inner?.[name], value);
}
