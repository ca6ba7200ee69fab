// Every scenario on every way ends as expected.json says, whether that is well or not. One that does not
// pass, as expected, counts as `todo`.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { FEATURES } from './cases.mjs';
import { PATIENCE, Server } from './stage.mjs';
import { run } from './steps.mjs';
import { WORLDS } from './translate.mjs';
import { WAYS, end } from './ways.mjs';

const expected = JSON.parse(readFileSync(new URL('expected.json', import.meta.url)));

/** So many scenarios of a way at once: some wait for a provider that has lost its server. */
const AT_ONCE = 4;

const servers = {};
const results = {};

before(async () => {
  for (const [suite, world] of Object.entries(WORLDS)) servers[suite] = await Server.with(world);
});

after(async () => {
  writeFileSync(process.env.GHERKIN_RESULTS, JSON.stringify(results));
  await end();
  for (const server of Object.values(servers)) await server.end();
});

describe('flagd-testbed', { concurrency: true }, () => {
  for (const way of WAYS) {
    describe(way.name, { concurrency: AT_ONCE }, () => {
      for (const { path, suite, scenarios } of FEATURES) {
        for (const scenario of scenarios) {
          test(`${way.name}: ${path}: ${scenario.id}`, { timeout: 3 * PATIENCE }, async (t) => {
            const result = await run(scenario, suite, way, servers[suite]);
            ((results[path] ??= {})[scenario.id] ??= {})[way.id] = result;
            if (process.env.UPDATE) return;
            const wanted = expected[path]?.[scenario.id];
            assert.equal(result, typeof wanted === 'string' ? wanted : wanted?.[way.id]);
            if (result !== 'passed') t.todo(result);
          });
        }
      }
    });
  }
});
