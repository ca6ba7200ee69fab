// The SDK in a real browser, on pages of other origins than the server's. PAGE names the page's bundle, CHROMIUM the
// browser.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { connect } from '@phasegate/client/node';
import { chromium } from 'playwright-core';
import { Served } from '../../../tests/program.mjs';

const html =
  '<!doctype html><meta charset="utf-8"><title>Phasegate</title><script type="module" src="page.js"></script>';

/** What is open, to be closed in the end. */
const open = [];
let browser;
let served;
/** The origin that the server was told of, and one that it was not. */
let named;
let unnamed;

/** A server of the page; gives its origin. */
async function host() {
  const bundle = await readFile(process.env.PAGE);
  const server = createServer(({ url }, response) => {
    if (url === '/') response.setHeader('content-type', 'text/html').end(html);
    else if (url === '/page.js') response.setHeader('content-type', 'text/javascript').end(bundle);
    else response.writeHead(204).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(() => server.close().closeAllConnections());
  return `http://127.0.0.1:${server.address().port}`;
}

before(async () => {
  [named, unnamed] = [await host(), await host()];
  served = await Served.start(['--memory', '--listen', '127.0.0.1:0', '--grpc-web-origin', named]);
  open.push(() => served.end());
  const phasegate = connect(served.url, { principal: 'ann' });
  open.push(() => phasegate.close());
  const phases = [{ id: 'canary', rules: [{ id: 'all' }], bakeDuration: { seconds: 3600n } }];
  await phasegate.createPipeline({ pipelineId: 'web', pipeline: { phases } });
  const flag = { pipeline: 'pipelines/web', spec: { case: 'featureGate', value: {} } };
  await phasegate.createFlag({ flagId: 'checkout', flag });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-background-networking'],
  });
  open.push(() => browser.close());
});

after(async () => {
  for (const close of open.reverse()) await close();
});

/** The page at an origin, and what the browser complains of meanwhile. */
async function visit(origin) {
  const tab = await browser.newPage();
  const complaints = [];
  tab.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  tab.on('pageerror', (error) => complaints.push(error.message));
  await tab.goto(origin);
  await tab.waitForFunction(() => 'page' in globalThis);
  return { tab, complaints };
}

test('a page triggers a release, watches it to its end, and meets a refusal by its reason', async () => {
  const { tab, complaints } = await visit(named);
  const told = await tab.evaluate((address) => globalThis.page.rollOut(address), served.url);
  assert.deepEqual(told, {
    updates: ['snapshot', 'change'],
    end: 'SUCCEEDED',
    refusal: 'the release is over',
  });
  assert.deepEqual(complaints, []);
  await tab.close();
});

test('a page leaves watches, by a break and by a signal', async () => {
  const { tab, complaints } = await visit(named);
  const words = await tab.evaluate((address) => globalThis.page.leave(address), served.url);
  assert.deepEqual(words, ['snapshot', 'CANCELLED']);
  assert.deepEqual(complaints, []);
  await tab.close();
});

test('a page of an origin that the server was not told of is refused by the browser', async () => {
  const { tab, complaints } = await visit(unnamed);
  const answer = await tab.evaluate((address) => globalThis.page.ask(address), served.url);
  assert.equal(answer, 'UNAVAILABLE  unreachable');
  assert.match(complaints.join(), /blocked by CORS policy/);
  await tab.close();
  // The same page of the other origin is let in, so that nothing else stood in the way.
  const { tab: other } = await visit(named);
  assert.equal(await other.evaluate((address) => globalThis.page.ask(address), served.url), '1 flags');
  await other.close();
});
