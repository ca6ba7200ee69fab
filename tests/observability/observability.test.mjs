// A server that tells a collector, Prometheus and a receiver of webhooks of one and the same call.
//
// Nothing here waits for time to pass: what is waited for is an arrival.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Served, run } from '../program.mjs';
import { Collector, call } from './collector.mjs';
import { encodeTexts } from './protobuf.mjs';

const DEPLOY = join(import.meta.dirname, '..', '..', 'deploy', 'observability');

/** Longer than anything here takes, on a busy machine. */
const PATIENCE = 60_000;

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const PAUSE = 'phasegate.v1.ReleaseService/PauseRelease';
const HELD = 'phasegate.release.held.v1';
const SECRET = 'canary-of-the-collector-2f6b';

const DOCUMENTS = `
kind: Pipeline
name: pipelines/slow
phases:
  - id: canary
    rules: [{id: all}]
    bakeDuration: 600s
---
kind: Flag
name: flags/checkout
pipeline: pipelines/slow
featureGate: {defaultValue: false}
`;
const RELEASE = '{kind: Release, flag: flags/checkout, featureGate: {defaultValue: true}}';

/** A receiver of webhooks. */
async function receiver(t) {
  const arrivals = [];
  const waiting = [];
  const http = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    arrivals.push({ headers: request.headers, event: JSON.parse(Buffer.concat(parts)) });
    response.writeHead(204).end();
    waiting.splice(0).forEach((look) => look());
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.after(() => { http.closeAllConnections(); http.close(); });
  const arrived = async (isIt) => {
    for (;;) {
      const found = arrivals.find(isIt);
      if (found) return found;
      await new Promise((resolve) => { waiting.push(resolve); });
    }
  };
  return { port: http.address().port, arrived };
}

/** A server that tells of itself in every way, with a release that bakes. */
async function world(t, { collector, more = [] } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'phasegate-observability-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const hooks = await receiver(t);
  await writeFile(join(directory, 'key'), `whsec_${'A'.repeat(43)}=`, { mode: 0o600 });
  await writeFile(join(directory, 'notifications.yaml'), `
allowed_hosts: [127.0.0.1]
allowed_ports: [${hooks.port}]
sinks:
  - id: ops
    webhook: {url: 'http://127.0.0.1:${hooks.port}/', secrets: [key], allow_insecure_loopback: true}
    subscriptions: [{events: [${HELD}]}]
`);
  const env = collector && {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: `api-key=${SECRET}`,
    OTEL_METRIC_EXPORT_INTERVAL: '250',
    OTEL_BSP_SCHEDULE_DELAY: '100',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  };
  const served = await Served.start([
    '--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0', '--data', join(directory, 'data'),
    '--notifications', join(directory, 'notifications.yaml'), '--log-format', 'json', ...more,
  ], { env });
  t.after(() => served.end('SIGKILL'));
  const pg = (args, input) => run(args, { url: served.url, timeout: PATIENCE, input });
  await pg(['apply', '-f', '-'], DOCUMENTS);
  await pg(['release', 'trigger', '-f', '-', '--id', 'r-1'], RELEASE);
  const get = async (path) => {
    const answer = await fetch(new URL(path, served.metrics));
    return { status: answer.status, text: await answer.text() };
  };
  const events = async () => {
    const text = await pg(['release', 'events', 'r-1', '-o', 'json']);
    const parsed = JSON.parse(text);
    return parsed.events ?? parsed;
  };
  return { served, hooks, pg, get, events, directory };
}

const pause = (served, headers) =>
  call(served.url, PAUSE, encodeTexts({ 1: 'releases/r-1', 2: 'q-7', 4: 'let us look' }), headers);

/** What `promtool check metrics` finds, a line each. */
function found(text) {
  return new Promise((resolve) => {
    const child = execFile('promtool', ['check', 'metrics'], (error, stdout, stderr) => {
      resolve(`${stdout}${stderr}`.split('\n').filter(Boolean).sort());
    });
    child.stdin.end(text);
  });
}

test('the trace of a caller goes through the span, the event, the webhook and the log', async (t) => {
  const collector = await Collector.start(t);
  const { served, hooks, events } = await world(t, { collector });
  const status = await pause(served, { traceparent: `00-${TRACE}-${PARENT}-01`, tracestate: 'vendor=x' });
  assert.equal(status, 0);

  const span = await collector.span(({ name, trace }) => name === PAUSE && trace === TRACE);
  assert.equal(span.parent, PARENT);
  assert.equal(span.kind, 2, 'of a server');
  assert.equal(span.state, 'vendor=x');
  const said = span.attributes;
  assert.equal(said['rpc.system.name'], 'grpc');
  assert.equal(said['rpc.response.status_code'], 'OK');
  assert.deepEqual([said['phasegate.release'], said['phasegate.phase'], said['phasegate.request_id']], ['r-1', 'canary', 'q-7']);

  const ours = `00-${TRACE}-${span.id}-01`;
  // What came without a trace has one that the server began.
  const event = (await events()).find(({ details }) => details?.traceparent?.includes(TRACE));
  assert.equal(event.details.traceparent, ours);
  assert.equal(said['phasegate.revision'], Number(event.revision));

  const arrival = await hooks.arrived(({ event }) => event.type === HELD);
  assert.equal(arrival.event.traceparent, ours, 'the CloudEvent says what caused it');
  const sent = await collector.span(({ name, trace }) => name === 'notify' && trace === TRACE);
  assert.equal(sent.parent, span.id);
  assert.equal(arrival.headers.traceparent, `00-${TRACE}-${sent.id}-01`, 'the header names the attempt');

  await served.end();
  const lines = served.said.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const line = lines.find(({ message, rpc }) => message === 'call' && rpc === 'PauseRelease');
  const { outcome, release, phase, request_id, revision, trace_id } = line;
  assert.deepEqual(
    { outcome, release, phase, request_id, revision, trace_id },
    { outcome: 'done', release: 'r-1', phase: 'canary', request_id: 'q-7', revision: Number(event.revision), trace_id: TRACE },
  );
});

test('spans and metrics arrive at a collector, with its key, which is said nowhere', async (t) => {
  const collector = await Collector.start(t);
  const { served, get } = await world(t, { collector, more: ['--log', 'trace'] });
  assert.equal(await pause(served), 0);
  const paused = () => collector.metrics.get('phasegate.release.transitions')?.points
    .find(({ attributes, value }) => attributes['phasegate.event.type'] === 'PAUSED' && value === 1);
  await collector.until(paused);
  const calls = collector.metrics.get('rpc.server.call.duration');
  assert.deepEqual([calls.kind, calls.unit], ['histogram', 's']);
  const one = calls.points.find(({ attributes }) => attributes['rpc.method'] === PAUSE);
  assert.deepEqual([one.count, one.attributes['rpc.response.status_code']], [1, 'OK']);
  const { text } = await get('/metrics');
  await served.end();
  // All of the table is pushed, and at the end once more.
  for (const [name, { kind }] of collector.metrics) {
    const shown = name.replaceAll('.', '_');
    const type = kind === 'sum' ? 'counter' : kind;
    assert.match(text, new RegExp(`^# TYPE ${shown}(_seconds|_bytes)?(_total)? ${type}$`, 'm'));
  }
  assert.ok(collector.metrics.size > 40, `${collector.metrics.size} metrics`);
  for (const resource of collector.resources) {
    assert.equal(resource['service.name'], 'phasegate');
    assert.equal(resource['deployment.environment.name'], 'test');
  }
  assert.ok(collector.spans.length > 3);
  for (const headers of collector.headers) assert.equal(headers['api-key'], SECRET);
  const written = [served.said, text, JSON.stringify(collector.spans), JSON.stringify([...collector.metrics])];
  for (const place of written) assert.ok(!place.includes(SECRET));
});

test('without a collector a trace is passed on as it came', async (t) => {
  const { served, hooks, events } = await world(t);
  const came = `00-${TRACE}-${PARENT}-00`;
  assert.equal(await pause(served, { traceparent: came }), 0);
  const arrival = await hooks.arrived(({ event }) => event.type === HELD);
  assert.deepEqual([arrival.headers.traceparent, arrival.event.traceparent], [came, came]);
  assert.ok((await events()).some(({ details }) => details?.traceparent === came));
});

test('a collector that is away changes nothing', async (t) => {
  const collector = { url: 'http://127.0.0.1:9' };
  const { served, get } = await world(t, { collector });
  assert.equal(await pause(served), 0);
  const failures = async () => Number(/^phasegate_otlp_failures_total (\d+)$/m.exec((await get('/metrics')).text)[1]);
  const deadline = performance.now() + PATIENCE;
  while (await failures() === 0) assert.ok(performance.now() < deadline, 'nothing failed');
  await served.end();
});

test('promtool finds nothing wrong with what is exposed but two names of the conventions', async (t) => {
  const { served, get } = await world(t);
  assert.equal(await pause(served), 0);
  const { status, text } = await get('/metrics');
  assert.equal(status, 200);
  const odd = (name) => `${name} non-histogram and non-summary metrics should not have "_count" suffix`;
  const conventional = [odd('process_thread_count'), odd('process_unix_file_descriptor_count')];
  assert.deepEqual(await found(text), conventional);
  // It would have said something.
  const unhelpful = text.replace(/^# HELP phasegate_commits_total .*\n/m, '');
  assert.deepEqual(await found(unhelpful), ['phasegate_commits_total no help text', ...conventional]);
});

test('the alerts and the dashboard ask for metrics that are there', async (t) => {
  const { get } = await world(t);
  const { text } = await get('/metrics');
  const known = new Set();
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    known.add(name);
    if (type === 'histogram') for (const end of ['_bucket', '_sum', '_count']) known.add(name + end);
  }
  const alerts = await readFile(join(DEPLOY, 'alerts.yml'), 'utf8');
  const dashboard = JSON.parse(await readFile(join(DEPLOY, 'dashboard.json'), 'utf8'));
  const asked = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  asked.push(...dashboard.templating.list.map(({ definition = '' }) => definition), alerts);
  assert.ok(asked.length > 30);
  const labels = new Set([...text.matchAll(/([a-z_]+)="/g)].map(([, label]) => label));
  // With their label these come with the first call of their kind.
  for (const label of ['http_request_method', 'http_response_status_code']) labels.add(label);
  for (const expression of asked) {
    for (const [name] of expression.matchAll(/\b(?:phasegate|rpc|http|process)_[a-z_]+\b/g)) {
      assert.ok(known.has(name) || labels.has(name), `${name} is not there: ${expression}`);
    }
  }
});

test('a server that stops says so to probes while it answers', async (t) => {
  const { served, get, pg } = await world(t);
  assert.deepEqual(await get('/readyz'), { status: 200, text: 'ok\n' });
  // A server that nobody is connected to has nothing to wait for.
  const held = connect(served.url);
  t.after(() => held.destroy());
  await once(held, 'connect');
  // So far only the kernel has taken it. Who comes later and is answered came in after it.
  await pg(['release', 'get', 'r-1']);
  const ended = served.end('SIGTERM');
  const deadline = performance.now() + PATIENCE;
  let ready;
  do {
    ready = await get('/readyz');
    assert.ok(performance.now() < deadline, 'it stays ready');
  } while (ready.status === 200);
  assert.deepEqual(ready, { status: 503, text: 'the server is stopping\n' });
  assert.equal((await get('/livez')).status, 200);
  held.destroy();
  await ended;
});
