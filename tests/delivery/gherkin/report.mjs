// How many scenarios passed on which way, and why the others did not: printed, and held against what is
// written down, or written down with UPDATE=1.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { FEATURES, LEFT_OUT } from './cases.mjs';
import { TESTBED } from './packages.mjs';
import { WORLDS } from './translate.mjs';
import { WAYS } from './ways.mjs';

const EXPECTED = new URL('expected.json', import.meta.url);
const DOCUMENT = new URL('../../../docs/delivery-gherkin.md', import.meta.url);

const found = JSON.parse(readFileSync(process.env.GHERKIN_RESULTS));

/** The results in the order of the cases; one that all ways share is said once. */
const results = Object.fromEntries(FEATURES.map(({ path, scenarios }) => [path, Object.fromEntries(
  scenarios.map(({ id }) => {
    const of = found[path]?.[id] ?? {};
    const isShared = WAYS.every((way) => of[way.id] !== undefined && of[way.id] === of[WAYS[0].id]);
    return [id, isShared ? of[WAYS[0].id] : Object.fromEntries(WAYS.map((way) => [way.id, of[way.id]]))];
  }),
)]));

const table = (head, rows) => [head, head.map((_, at) => (at === 0 ? '---' : '--:')), ...rows]
  .map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** The results of some features on a way. */
const on = (way, paths) => paths.flatMap((path) => Object.values(found[path] ?? {}).map((ways) => ways[way.id]));

const paths = FEATURES.map(({ path }) => path);
const score = (way, some) => {
  const all = on(way, some);
  const passed = all.filter((result) => result === 'passed').length;
  return `${passed} / ${all.length - passed}`;
};
const features = table(['passed / failed', ...WAYS.map(({ name }) => name)], [
  ...paths.map((path) => [path, ...WAYS.map((way) => score(way, [path]))]),
  ['**all**', ...WAYS.map((way) => score(way, paths))],
]);

const count = (way, reason) => on(way, paths).filter((result) => result === reason).length;
const total = (reason) => WAYS.reduce((sum, way) => sum + count(way, reason), 0);
const why = [...new Set(WAYS.flatMap((way) => on(way, paths)))].filter((result) => result !== 'passed')
  .sort((a, b) => total(b) - total(a) || a.localeCompare(b));
const reasons = table(['why not', ...WAYS.map(({ name }) => name)], why.map(
  (reason) => [reason, ...WAYS.map((way) => count(way, reason) || '')],
));

const leftOut = table(['feature', 'about', 'scenarios'], LEFT_OUT.map(
  ({ path, notRun, scenarios }) => [path, notRun, scenarios.length],
)).replace('--:', '---');

/** The flags of both suites by everything that each would need. */
function flags() {
  const groups = new Map();
  for (const world of Object.values(WORLDS)) {
    for (const [key, needs] of world.flags) {
      for (const some of needs) {
        const group = some.join('; ') || 'nothing: it is expressed';
        groups.set(group, (groups.get(group) ?? new Set()).add(`\`${key}\``));
      }
    }
  }
  const rows = [...groups].sort(([a], [b]) => a.localeCompare(b))
    .map(([group, keys]) => [group, [...keys].sort().join(' ')]);
  return table(['what it needs', 'flag'], rows).replace('--:', '---');
}

const [crate, ...packages] = process.env.GHERKIN_PACKAGES.split(' ');

const document = `# flagd-testbed's cases

Written by \`UPDATE=1 tests/delivery/gherkin/run\`; \`tests/delivery/gherkin/run\` fails if it is not true.

[flagd-testbed](https://github.com/open-feature/flagd-testbed) has the Gherkin cases with which providers of
flagd are tried. Here they are put to Phasegate, through providers out of the registries. What fails is
mostly what Phasegate does not have on purpose: it serves booleans and JSON objects, and flagd serves anything.

- The testbed's flags are translated into gates and configs as far as those can say the same. A scenario about
  a flag that is not expressible has failed, also where an absent flag would be enough for it.
- A source of flags is an environment, and selecting the source selects that.
- Each scenario is run on each way, also those that the testbed has for some kinds of providers only.
- Where the connection is lost for some seconds, the server is killed. What should be seen of the loss has to
  be seen within these seconds, and then the server comes back with what it has on disk.

${features}

## Why not

${reasons}

## Not run

${leftOut}

## What the testbed's flags need

A flag needs all that stands in its row, and where two of the testbed's files have it, what stands in each. A share
is not expressible because who is inside follows from its salt, and Phasegate's salts are its own.

${flags()}

## Versions

flagd-testbed ${readFileSync(join(TESTBED, 'version.txt'), 'utf8').trim()}, out of the crate \`${crate}\`. Packages:

${packages.map((name) => `- \`${name}\``).join('\n')}
`;

console.log(`\n${features}\n\n${reasons}\n`);

if (process.env.UPDATE) {
  writeFileSync(EXPECTED, `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(DOCUMENT, document);
} else {
  const isExpected = isDeepStrictEqual(JSON.parse(readFileSync(EXPECTED)), results);
  const isWritten = readFileSync(DOCUMENT, 'utf8') === document;
  if (!isExpected) console.error('expected.json says otherwise; UPDATE=1 writes it');
  if (!isWritten) console.error('docs/delivery-gherkin.md says otherwise; UPDATE=1 writes it');
  process.exitCode = isExpected && isWritten ? 0 : 1;
}
