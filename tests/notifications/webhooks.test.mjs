// A receiver that verifies with the library of Standard Webhooks, and a server that tells it of releases.
//
// Nothing here waits for time to pass: an arrival is an event, and the server's clock is moved by hand. It
// says what this machine's says, because the library refuses what is older than five minutes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Served, run } from '../program.mjs';

const { Webhook } = createRequire(join(process.env.NOTIFICATIONS_TOOLS, 'package.json'))('standardwebhooks');

/** Longer than anything here takes, on a busy machine. */
const PATIENCE = 60_000;

const DOCUMENTS = `
kind: Pipeline
name: pipelines/asked
phases:
  - id: prod
    rules: [{id: all}]
    bakeDuration: 600s
    approval: {minApprovals: 1}
---
kind: Flag
name: flags/checkout
pipeline: pipelines/asked
featureGate: {defaultValue: false}
---
kind: Flag
name: flags/search
pipeline: pipelines/asked
featureGate: {defaultValue: false}
---
kind: Flag
name: flags/basket
pipeline: pipelines/asked
featureGate: {defaultValue: false}
`;

const release = (flag) => `{kind: Release, flag: flags/${flag}, labels: {team: web}, featureGate: {defaultValue: true}}`;

const DUE = 'phasegate.release.approval_due.v1';

/** Asks again as soon as it was answered, until the answer is wanted; gives that answer. */
async function until(what, ask, isWanted) {
  const deadline = performance.now() + PATIENCE;
  let last;
  do {
    last = await ask();
    if (isWanted(last)) return last;
  } while (performance.now() < deadline);
  throw new Error(`never came true: ${what}; at last ${JSON.stringify(last)}`);
}

/** A receiver over loopback, which keeps all that it was sent and can be down. */
class Receiver {
  requests = [];
  #status = 204;
  #waiting = [];
  #http;

  static async start(t) {
    const receiver = new Receiver();
    receiver.#http = createServer(async (request, response) => {
      const parts = [];
      for await (const part of request) parts.push(part);
      receiver.requests.push({ path: request.url, headers: request.headers, body: Buffer.concat(parts) });
      receiver.#tell();
      if (receiver.#status === null) {
        // It takes it and says nothing.
        return;
      }
      response.writeHead(receiver.#status).end();
    });
    receiver.#http.listen(0, '127.0.0.1');
    await once(receiver.#http, 'listening');
    receiver.port = receiver.#http.address().port;
    t.after(() => {
      receiver.#http.closeAllConnections();
      receiver.#http.close();
    });
    return receiver;
  }

  /** What it answers from now on; null: nothing at all. */
  answer(status) { this.#status = status; }

  #tell() {
    this.#waiting = this.#waiting.filter(({ count, resolve }) => {
      if (this.requests.length < count) return true;
      resolve();
      return false;
    });
  }

  /** Waits until it was sent so many requests, and gives them. */
  async received(count) {
    if (this.requests.length < count) {
      const { promise, resolve } = Promise.withResolvers?.() ?? deferred();
      this.#waiting.push({ count, resolve });
      await promise;
    }
    return this.requests;
  }
}

function deferred() {
  let resolve;
  const promise = new Promise((done) => { resolve = done; });
  return { promise, resolve };
}

/** A server with a data directory, a file of notifications, and a clock that is moved by hand. */
class World {
  static async start(t) {
    const world = new World();
    world.directory = await mkdtemp(join(tmpdir(), 'phasegate-notifications-'));
    t.after(() => rm(world.directory, { recursive: true, force: true }));
    world.receiver = await Receiver.start(t);
    world.key = await world.newKey('first');
    await world.configure(['first']);
    await world.serve();
    t.after(() => world.served.end('SIGKILL'));
    await run(['apply', '-f', '-'], { ...world.as('ann'), input: DOCUMENTS });
    return world;
  }

  async serve() {
    this.served = await Served.start([
      '--listen', '127.0.0.1:0', '--data', join(this.directory, 'data'), '--clock', 'manual',
      '--clock-start', new Date().toISOString(), '--notifications', join(this.directory, 'notifications.yaml'),
    ]);
    await this.pg('list', 'flags');
  }

  /** A key in a file, as both sides have it. */
  async newKey(name) {
    const key = `whsec_${randomBytes(32).toString('base64')}`;
    const file = join(this.directory, name);
    await writeFile(file, key, { mode: 0o600 });
    await chmod(file, 0o600);
    return key;
  }

  async configure(secrets, more = '') {
    const { port } = this.receiver;
    await writeFile(join(this.directory, 'notifications.yaml'), `
allowed_hosts: [127.0.0.1]
allowed_ports: [${port}]
sinks:
  - id: ops
    webhook:
      url: http://127.0.0.1:${port}/ops?token=canary
      secrets: [${secrets.join(', ')}]
      allow_insecure_loopback: true
    subscriptions:
      - {events: [${DUE}], labels: {team: web}}
${more}`);
  }

  as(principal) {
    return { url: this.served.url, timeout: PATIENCE, env: { PHASEGATE_PRINCIPAL: principal } };
  }

  pg(...args) { return run(args, this.as('ann')); }

  trigger(flag) {
    return run(['release', 'trigger', '-f', '-', '--id', `r-${flag}`], { ...this.as('ann'), input: release(flag) });
  }

  async sink(id = 'ops') {
    const { sinks = [] } = JSON.parse(await this.pg('notify', 'list', '-o', 'json'));
    return sinks.find((sink) => sink.id === id);
  }

  /** Verifies a request with the library; gives the event. */
  verify(request, key = this.key) {
    return new Webhook(key).verify(request.body.toString(), request.headers);
  }
}

test('a release that awaits approval is told to a receiver that verifies it', async (t) => {
  const world = await World.start(t);
  await world.trigger('checkout');
  const [request] = await world.receiver.received(1);
  assert.equal(request.path, '/ops?token=canary');
  assert.equal(request.headers['content-type'], 'application/cloudevents+json; charset=utf-8');
  const event = world.verify(request);
  assert.equal(event.type, DUE);
  assert.equal(event.subject, 'releases/r-checkout');
  assert.equal(event.specversion, '1.0');
  assert.equal(event.id, request.headers['webhook-id']);
  assert.deepEqual(event.data.labels, { team: 'web' });
  assert.equal(event.data.phase, 'prod');
  assert.equal(event.data.creator, 'ann');
  // What was changed on the way is not believed.
  assert.throws(() => world.verify({ ...request, body: Buffer.from(`${request.body} `) }));
  assert.throws(() => world.verify(request, `whsec_${randomBytes(32).toString('base64')}`));
  const sink = await until('it is written down', () => world.sink(), (found) => found.delivered === '1');
  assert.equal(sink.address, `http://127.0.0.1:${world.receiver.port}/ops`);
  assert.equal(sink.state, 'SINK_STATE_OPEN');
});

test('a key is replaced without a gap', async (t) => {
  const world = await World.start(t);
  const [old, fresh] = [world.key, await world.newKey('second')];
  await world.configure(['second', 'first'], `
  - id: marker
    webhook: {url: 'http://127.0.0.1:${world.receiver.port}/', secrets: [first], allow_insecure_loopback: true}
    subscriptions: [{events: [phasegate.flag.killed.v1]}]
`);
  world.served.signal('SIGHUP');
  await until('the file is followed', () => world.sink('marker'), Boolean);
  await world.trigger('checkout');
  const [request] = await world.receiver.received(1);
  assert.equal(request.headers['webhook-signature'].split(' ').length, 2);
  assert.equal(world.verify(request, old).type, DUE);
  assert.equal(world.verify(request, fresh).type, DUE);
  // A file that is wrong changes nothing.
  await writeFile(join(world.directory, 'notifications.yaml'), 'sinks: [{id: nobody}]\n');
  world.served.signal('SIGHUP');
  await world.trigger('search');
  const [, second] = await world.receiver.received(2);
  assert.equal(world.verify(second, fresh).subject, 'releases/r-search');
});

test('a receiver that was down gets it once when it is up', async (t) => {
  const world = await World.start(t);
  world.receiver.answer(500);
  await world.trigger('checkout');
  await world.receiver.received(1);
  // It is counted a little before it is written down.
  const failed = await until('the failure is written down', () => world.sink(), (sink) => sink.lastError);
  assert.equal(failed.lastError, 'answered 500');
  assert.equal(failed.failed, '1');
  assert.equal(failed.pending, '1');
  world.receiver.answer(204);
  await world.pg('clock', 'advance', '7s');
  const requests = await world.receiver.received(2);
  assert.equal(world.verify(requests[1]).id, world.verify(requests[0]).id);
  await until('the delivery is written down', () => world.sink(), (sink) => sink.delivered === '1');
  await world.pg('clock', 'advance', '200s');
  // Another release comes through behind it, and nothing in between.
  await world.trigger('search');
  await world.receiver.received(3);
  assert.equal(world.verify(requests[2]).subject, 'releases/r-search');
});

test('what was under way when the server was killed comes again with the same id', async (t) => {
  const world = await World.start(t);
  world.receiver.answer(null);
  await world.trigger('checkout');
  const [first] = await world.receiver.received(1);
  const { id } = world.verify(first);
  // The receiver has it; the server does not know.
  await world.served.end('SIGKILL');
  world.receiver.answer(204);
  await world.serve();
  const requests = await world.receiver.received(2);
  assert.equal(world.verify(requests[1]).id, id);
  await until('it is written down', () => world.sink(), (sink) => sink.delivered === '1' && !Number(sink.pending ?? 0));
});

test('a dead letter is looked at and sent again', async (t) => {
  const world = await World.start(t);
  world.receiver.answer(410);
  await world.trigger('checkout');
  await world.receiver.received(1);
  const gone = await until('it is given up', () => world.sink(), (sink) => sink.dead === '1');
  assert.equal(gone.state, 'SINK_STATE_GONE');
  const { deadLetters } = JSON.parse(await world.pg('notify', 'dead', 'ops', '-o', 'json'));
  assert.deepEqual(deadLetters.map(({ type, lastError, attempts }) => [type, lastError, attempts]), [[DUE, 'answered 410', 1]]);
  // The settings change, so the receiver is asked again.
  world.receiver.answer(204);
  await world.newKey('second');
  await world.configure(['first', 'second']);
  world.served.signal('SIGHUP');
  await until('the file is followed', () => world.sink(), (sink) => sink.state === 'SINK_STATE_OPEN');
  assert.match(await world.pg('notify', 'replay', 'ops', deadLetters[0].id), /^1 to be sent again/);
  const requests = await world.receiver.received(2);
  assert.equal(requests[1].headers['webhook-id'], deadLetters[0].id);
});

test('a test is sent with a server and without one', async (t) => {
  const world = await World.start(t);
  const said = await world.pg('notify', 'test', 'ops');
  assert.match(said, /ops has taken the test/);
  const file = join(world.directory, 'notifications.yaml');
  assert.match(await world.pg('notify', 'test', 'ops', '--file', file), /answered 204/);
  const requests = await world.receiver.received(2);
  for (const request of requests) assert.equal(world.verify(request).type, 'phasegate.test.v1');
  world.receiver.answer(302);
  await assert.rejects(world.pg('notify', 'test', 'ops', '--file', file), /redirects are not followed/);
  await assert.rejects(world.pg('notify', 'test', 'nobody'), /there is no sink nobody/);
});
