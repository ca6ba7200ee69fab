// The example, and the code of README.md, as they run against real servers. EXAMPLES is the folder with their
// JavaScript, whose addresses are still those that stand there.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { connect } from '@phasegate/client/node';
import { Served } from '../../../tests/program.mjs';

const FOLDER = process.env.EXAMPLES;
const DOCUMENTED = 'http://127.0.0.1:7433';

/** A server of the test's own. */
async function server(t) {
  const served = await Served.start(['--memory', '--listen', '127.0.0.1:0']);
  t.after(() => served.end());
  return served.url;
}

/** A flag along a pipeline of one phase, which bakes so long. */
async function withFlag(address, seconds) {
  const phasegate = connect(address, { principal: 'ann@example.com' });
  const phases = [{ id: 'everyone', rules: [{ id: 'all' }], bakeDuration: { seconds } }];
  await phasegate.createPipeline({ pipelineId: 'web', pipeline: { phases } });
  const flag = { pipeline: 'pipelines/web', spec: { case: 'featureGate', value: {} } };
  await phasegate.createFlag({ flagId: 'checkout-v2', flag });
  return phasegate;
}

/** Starts one of them against a server. */
async function start(name, address) {
  const code = await readFile(join(FOLDER, `${name}.js`), 'utf8');
  const file = join(FOLDER, `${name}.run.js`);
  await writeFile(file, code.replaceAll(DOCUMENTED, address));
  const env = { ...process.env, PHASEGATE_ADDRESS: address };
  return spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'inherit'] });
}

/** What one of them says, from its beginning to its end. */
async function said(name, address) {
  const child = await start(name, address);
  const lines = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, lines.join('\n'));
  return lines;
}

test('the example goes through its pipeline, and somebody else has to approve', async (t) => {
  const [first, ...rest] = await said('rollout', await server(t));
  assert.match(first, /^releases\/\S+ is BAKING$/);
  assert.deepEqual(rest, [
    'PHASE_SUCCEEDED canary',
    'PHASE_ENTERED staff',
    'somebody else must approve',
    'APPROVAL_RECORDED staff',
    'PHASE_APPLIED staff',
    'PHASE_SUCCEEDED staff',
    'PHASE_ENTERED everyone',
    'PHASE_APPLIED everyone',
    'PHASE_SUCCEEDED everyone',
    'SUCCEEDED ',
    'over',
  ]);
});

test('five lines are enough', async (t) => {
  const address = await server(t);
  (await withFlag(address, 1n)).close();
  assert.deepEqual(await said('five-lines', address), ['snapshot', 'change']);
});

test('the code about errors meets one', async (t) => {
  const [line] = await said('errors', await server(t));
  assert.match(line, /^NOT_FOUND RESOURCE_NOT_FOUND \{ resource: 'releases\/checkout-v2-1' \}/);
});

test('the code about signals makes its call', async (t) => {
  assert.deepEqual(await said('abort', await server(t)), []);
});

test('the code about watches tells what is under way, and what changes', async (t) => {
  const address = await server(t);
  const phasegate = await withFlag(address, 3600n);
  const child = await start('watch', address);
  t.after(() => child.kill());
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.match((await lines.next()).value, /^0 under way, as of \d+$/);
  const change = { case: 'featureGate', value: { defaultValue: true } };
  const release = { flag: 'flags/checkout-v2', change };
  const { name } = await phasegate.triggerRelease({ release });
  phasegate.close();
  assert.match((await lines.next()).value, new RegExp(`^${name} .*'TRIGGERED'`));
});
