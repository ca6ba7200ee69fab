// Every client does every scenario. Prints a table, and fails if one of them failed.
//
// Arguments: clients, by their names in CLIENTS; none is all. ONLY=text does the scenarios with that in their name.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Runner } from './runner.mjs';
import { Scenario } from './scenario.mjs';

const ROOT = join(import.meta.dirname, '..', '..');
const SDK = join(ROOT, 'sdk');

const CLIENTS = {
  rust: [process.env.CONFORMANCE_RUST],
  go: [join(SDK, 'go', 'runner')],
  python: [join(SDK, 'python', 'runner')],
  'python-aio': [join(SDK, 'python', 'runner'), '--aio'],
  typescript: [join(SDK, 'typescript', 'runner')],
  'grpc-web': [join(SDK, 'typescript', 'runner'), '--grpc-web'],
};

const scenarios = [];
for (const file of (await readdir(join(import.meta.dirname, 'scenarios'))).sort()) {
  const name = file.replace(/\.json$/, '');
  if (!name.includes(process.env.ONLY ?? '')) continue;
  const spec = await read('scenarios', name);
  const setup = spec.begin ? await read('setups', spec.begin) : { steps: [] };
  scenarios.push({ ...setup, ...spec, name, steps: [...setup.steps, ...spec.steps] });
}

async function read(folder, name) {
  return JSON.parse(await readFile(join(import.meta.dirname, folder, `${name}.json`)));
}

const asked = process.argv.slice(2);
const clients = asked.length ? asked : Object.keys(CLIENTS);
const unknown = clients.filter((name) => !(name in CLIENTS));
if (unknown.length) throw new Error(`no such client: ${unknown.join(', ')}`);

/** Does all scenarios with one client, one after the other. Gives what failed, by the scenario's name. */
async function tryOut(client) {
  const failures = new Map();
  for (const spec of scenarios) {
    if (spec.not?.includes(client)) {
      continue;
    }
    // A runner for each, so that one that hangs spoils only one.
    const runner = new Runner(CLIENTS[client]);
    try {
      await new Scenario(spec, runner).play();
      await runner.end();
      console.log(`ok      ${client}: ${spec.name}`);
    } catch (error) {
      runner.kill();
      failures.set(spec.name, error);
      console.log(`FAILED  ${client}: ${spec.name}: ${error.message}`);
    }
  }
  return failures;
}

const results = await Promise.all(clients.map(tryOut));

const wide = Math.max(...scenarios.map(({ name }) => name.length));
console.log(`\n${''.padEnd(wide)}  ${clients.join('  ')}`);
for (const { name, not } of scenarios) {
  const cell = (client, n) => (not?.includes(client) ? '-' : results[n].has(name) ? 'FAILED' : 'ok');
  const cells = clients.map((client, n) => cell(client, n).padEnd(client.length));
  console.log(`${name.padEnd(wide)}  ${cells.join('  ')}`);
}
const failed = results.reduce((sum, { size }) => sum + size, 0);
const tried = scenarios.reduce((sum, { not = [] }) => sum + clients.filter((client) => !not.includes(client)).length, 0);
console.log(`\n${tried - failed} passed, ${failed} failed`);
// A runner that hung may have left somebody who holds our pipes.
process.exit(failed ? 1 : 0);
