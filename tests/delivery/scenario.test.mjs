// A release as applications see it: the same story for every provider.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Client, Server, directory, until } from './stage.mjs';
import { CONTEXTS, CROWD, ENVIRONMENTS, FLAGS, PIPELINE, SEARCH, SPECS, gate, question, turn } from './world.mjs';

/**
 * The providers. `local` are those that answer by themselves, with the bucketing that they have; the others
 * answer as the server does, so half of them are tried with each. `events` are those that tell when something
 * changed, `metadata` those that hand on what is said of a flag, `nested` what becomes of a member that is
 * itself an object or a list.
 */
const CLIENTS = [
  { name: 'node-in-process', program: 'node', kind: 'in-process', bucketing: 'v2', local: true, events: true, metadata: true },
  { name: 'node-rpc', program: 'node', kind: 'rpc', bucketing: 'v3', events: true, metadata: true },
  { name: 'node-ofrep', program: 'node', kind: 'ofrep', bucketing: 'v2', metadata: true },
  { name: 'browser', program: 'browser', kind: 'ofrep', bucketing: 'v3', local: true, events: true, metadata: true },
  { name: 'python-in-process', program: 'python', kind: 'in-process', bucketing: 'v3', local: true, events: true, metadata: true },
  { name: 'python-rpc', program: 'python', kind: 'rpc', bucketing: 'v2', events: true },
  { name: 'python-ofrep', program: 'python', kind: 'ofrep', bucketing: 'v3', metadata: true },
  { name: 'rust-in-process', program: 'rust', kind: 'in-process', bucketing: 'v3', local: true, metadata: true, nested: 'text' },
  // It has no selector, so it asks in the default environment.
  {
    name: 'rust-rpc', program: 'rust', kind: 'rpc', bucketing: 'v2', metadata: true, nested: 'text',
    environments: ['prod'], serve: ['--default-environment', 'prod'],
  },
];

const wanted = (process.env.DELIVERY_CLIENTS ?? '').split(' ').filter(Boolean);
const isWanted = (name) => wanted.length === 0 || wanted.some((one) => name.startsWith(one));

/** Who is inside a share of a release, as the command line says: the same for every client of a bucketing. */
const shares = new Map();

async function inside(server, bucketing, share) {
  const key = `${bucketing} ${share}`;
  if (!shares.has(key)) {
    const found = { checkout: new Set(), search: new Set() };
    const asked = [
      ...CROWD.map((context) => ['checkout', context]),
      ...CONTEXTS.flatMap(({ context }) => [['checkout', context], ['search', context]]),
    ];
    const ask = async () => {
      for (let next = asked.pop(); next; next = asked.pop()) {
        const [flag, context] = next;
        const { exposed } = await server.eval(flag, 'prod', context);
        if (exposed) found[flag].add(JSON.stringify(context));
      }
    };
    await Promise.all([ask(), ask(), ask(), ask()]);
    shares.set(key, found);
  }
  return shares.get(key);
}

/** Which answer a step of the story expects for a context: the old one or the new. */
const nobody = () => 'old';
const everybody = () => 'new';
const early = ({ environment, entry }) => (environment === 'dev' || (environment === 'prod' && entry.early) ? 'new' : 'old');
const sharing = (found) => ({ environment, flag, entry }) => (
  environment === 'dev' || (environment === 'prod' && found[flag].has(JSON.stringify(entry.context))) ? 'new' : 'old');

const transcripts = [];

class Story {
  rows = [];
  #eventsSeen = 0;
  specs = { checkout: { ...SPECS.checkout }, search: { ...SPECS.search } };

  constructor(spec, server, client) {
    Object.assign(this, { spec, server, client, environments: spec.environments ?? ENVIRONMENTS });
  }

  /** Of a value what every provider hands on as it is: one makes texts of members that are objects. */
  #plain(value) {
    if (this.spec.nested !== 'text' || value === null || typeof value !== 'object') return value;
    const { limits: _, ...plain } = value;
    return plain;
  }

  /** Everything that is asked in a step, with what is to be answered. */
  #table(expects) {
    return this.environments.map((environment) => CONTEXTS.flatMap((entry) => ['checkout', 'search'].map((flag) => {
      const expected = expects[flag]({ environment, flag, entry });
      return { environment, flag, entry, which: expected, value: this.specs[flag][expected](entry.context) };
    })));
  }

  /** Waits until everything is answered as expected, and writes down how long that took. */
  async sees(step, expects, { crowd, took } = {}) {
    const began = performance.now();
    const tables = this.#table(expects);
    const wrong = await until(step, async () => {
      for (const table of tables) {
        const [{ environment }] = table;
        const got = await this.client.evaluate(environment, table.map(({ flag, entry }) => question(flag, entry.context)));
        const index = table.findIndex(({ value }, at) => (
          got[at].errorCode || !isDeepStrictEqual(this.#plain(got[at].value), this.#plain(value))));
        if (index >= 0) {
          const { flag, entry, value } = table[index];
          return { environment, flag, who: entry.name, expected: value, got: got[index] };
        }
      }
      return null;
    }, (found) => found === null);
    assert.equal(wrong, null);
    const waited = took ?? performance.now() - began;
    let text = tables.map((table) => {
      const count = (flag) => table.filter((row) => row.flag === flag && row.which === 'new').length;
      return `${table[0].environment} ${count('checkout')}+${count('search')} of ${CONTEXTS.length} new`;
    }).join(', ');
    if (crowd) {
      const expected = CROWD.map((context) => JSON.stringify(context)).filter((one) => crowd.has(one));
      // Each browser comes to it by itself.
      const inside = await until(`${step}: who is inside`, () => this.#inside(), (now) => isDeepStrictEqual([...now], expected));
      this.crowd = inside;
      text += `; ${inside.size} of ${CROWD.length} users new`;
    }
    this.note(step, text, waited);
  }

  /** Which users of the crowd have the change. */
  async #inside() {
    const got = await this.client.evaluate('prod', CROWD.map((context) => question('checkout', context)));
    assert.ok(got.every(({ errorCode }) => !errorCode), 'no errors');
    return new Set(CROWD.filter((_, at) => got[at].value === true).map((context) => JSON.stringify(context)));
  }

  /** Waits until more users than these have the change; gives how long that took. */
  async grows(count) {
    const began = performance.now();
    await until('more users are inside', () => this.#inside(), (now) => now.size > count);
    return performance.now() - began;
  }

  note(step, text, took) {
    const events = this.client.events.slice(this.#eventsSeen);
    this.#eventsSeen = this.client.events.length;
    const counts = new Map();
    for (const { event } of events) counts.set(event, (counts.get(event) ?? 0) + 1);
    const told = [...counts].map(([event, count]) => `${event} ×${count}`).join(', ');
    this.rows.push({ step, text, told, took });
  }

  /** One answer in production. */
  async ask(flag, context) {
    const [answer] = await this.client.evaluate('prod', [question(flag, context)]);
    return answer;
  }
}

// Some at a time: most of it is waiting, for a server that stops and providers that come back.
describe('providers', { concurrency: 4 }, () => {
  for (const spec of CLIENTS.filter(({ name }) => isWanted(name))) {
    test(`${spec.name} follows releases`, { timeout: 600_000 }, async (t) => {
      const server = new Server(join(await directory(t), 'data'), [
        '--bucketing', spec.bucketing, '--environment', 'staging', ...spec.serve ?? [],
      ]);
      let client;
      t.after(async () => {
        // Without streams the server need not wait for their end.
        await client?.stop();
        await server.stop();
      });
      await server.start();
      await server.apply([PIPELINE, FLAGS, gate('mark', false)].join('\n---\n'));
      client = Client.start({ ...spec, port: server.port, environments: spec.environments ?? ENVIRONMENTS });
      const story = new Story(spec, server, client);
      const both = (expects) => ({ checkout: expects, search: expects });
      let isOver = false;
      const step = (sentence, body) => t.test(sentence, { timeout: 180_000 }, async (own) => {
        if (isOver) return own.skip('a step before has failed');
        isOver = true;
        await body();
        isOver = false;
      });
      transcripts.push(story);

      await step('before any release everyone has the settled answers', async () => {
        await story.sees('start', both(nobody));
        const { reason, errorCode } = await story.ask('checkout', {});
        assert.match(reason, /^(STATIC|CACHED)$/);
        assert.ok(!errorCode, errorCode);
      });

      await step('the first phase covers its contexts, in its environment', async () => {
        await Promise.all([server.trigger(turn(true), 'gate'), server.trigger(SEARCH, 'config')]);
        await story.sees('phase 1: attributes', both(early));
        if (spec.metadata) {
          const { flagMetadata } = await story.ask('checkout', { targetingKey: 'u-beta', tier: 'beta' });
          const { release, phase, flagSetId } = flagMetadata;
          assert.deepEqual({ release, phase }, { release: 'gate', phase: 'early' });
          if (spec.local && spec.kind === 'in-process') assert.equal(flagSetId, 'prod');
        }
      });

      await step('while it is paused time changes nothing', async () => {
        for (const release of ['gate', 'config']) await server.pg('release', 'pause', release);
        await server.advance('2h');
        await server.apply(gate('mark', true));
        // Its answer comes behind whatever the two hours might have changed.
        await until('the mark arrives', () => story.ask('mark', {}), ({ value }) => value === true);
        await story.sees('paused for 2 h', both(early));
        for (const release of ['gate', 'config']) await server.pg('release', 'unpause', release);
      });

      await step('a share has exactly the users that the server says', async () => {
        await server.advance('600s');
        const took = await story.grows(0);
        const found = await inside(server, spec.bucketing, 'quarter');
        await story.sees('phase 2: 25 %', both(sharing(found)), { crowd: found.checkout, took });
        assert.ok(story.crowd.size > 25 && story.crowd.size < 75, `${story.crowd.size} of 200`);
      });

      await step('a share that grows loses nobody', async () => {
        const before = story.crowd;
        await server.advance('600s');
        const took = await story.grows(before.size);
        const found = await inside(server, spec.bucketing, 'half');
        await story.sees('phase 3: 50 %', both(sharing(found)), { crowd: found.checkout, took });
        for (const user of before) assert.ok(story.crowd.has(user), `${user} dropped out`);
        assert.ok(story.crowd.size > 70 && story.crowd.size < 130, `${story.crowd.size} of 200`);
      });

      await step('an abort takes everything back', async () => {
        await Promise.all(['gate', 'config'].map((id) => server.pg('release', 'abort', id, '--reason', 'enough')));
        await story.sees('aborted', both(nobody), { crowd: new Set() });
      });

      await step('a full roll out reaches everyone', async () => {
        await server.trigger(turn(true), 'gate-2');
        await server.trigger(SEARCH, 'config-2');
        for (const id of ['gate-2', 'config-2']) {
          await server.pg('release', 'full-rollout', id, '--reason', 'urgent');
        }
        await story.sees('full roll out', both(everybody));
        // From here on that is what is settled.
        story.specs.search.old = story.specs.search.new;
        story.specs.checkout = { old: () => true, new: () => false };
      });

      await step('a server that restarts in the middle of a release freezes nobody', async () => {
        await server.trigger(turn(false), 'gate-3');
        const expects = { checkout: early, search: nobody };
        await story.sees('third release, phase 1', expects);
        await server.stop();
        const began = performance.now();
        const answer = await story.ask('checkout', { targetingKey: 'u-beta', tier: 'beta' });
        if (spec.local) assert.equal(answer.value, false, 'the last answers go on');
        else assert.ok(answer.errorCode, `not an answer: ${JSON.stringify(answer)}`);
        story.note('server stopped', answer.errorCode ? `the default, ${answer.errorCode}` : 'the last answers', performance.now() - began);
        await server.start();
        // At once, while providers still wait before they come back.
        await server.pg('release', 'full-rollout', 'gate-3', '--reason', 'urgent');
        await story.sees('restarted, full roll out', { checkout: everybody, search: nobody });
        story.specs.checkout = SPECS.checkout;
      });

      await step('the kill switch is for everyone, and can be lifted', async () => {
        await server.trigger(turn(true), 'gate-4');
        await story.sees('fourth release, phase 1', { checkout: early, search: nobody });
        await server.pg('kill', 'checkout', '--reason', 'fire');
        await story.sees('killed', both(nobody));
        const { reason, flagMetadata } = await story.ask('checkout', { targetingKey: 'u-beta', tier: 'beta' });
        assert.match(reason, /^(STATIC|CACHED)$/);
        if (spec.metadata && reason === 'STATIC') assert.equal(flagMetadata.killed, true);
        await server.pg('revive', 'checkout');
        await story.sees('revived', { checkout: early, search: nobody });
      });

      if (spec.events) {
        await step('the provider has told of changes', () => {
          assert.ok(client.events.some(({ event }) => event === 'configuration_changed'));
        });
      }
    });
  }

  // A provider that asks for each answer keeps those that depend on no context until an event names their flag. Its
  // stream of events ends now and then, and it waits before it opens another: here after one second and a half, by default
  // after ten minutes.
  for (const spec of CLIENTS.filter(({ name }) => isWanted(name) && ['node-rpc', 'python-rpc'].includes(name))) {
    test(`${spec.name} misses no change between two streams of events`, { timeout: 120_000 }, async (t) => {
      const server = new Server(join(await directory(t), 'data'), []);
      let client;
      t.after(async () => {
        await client?.stop();
        await server.stop();
      });
      await server.start();
      const gates = Array.from({ length: 400 }, (_, index) => `gate-${index}`);
      await server.apply([PIPELINE, ...gates.map((id) => gate(id, false))].join('\n---\n'));
      client = Client.start({
        ...spec, port: server.port, environments: ['prod'], env: { FLAGD_STREAM_DEADLINE_MS: '1500' },
      });
      const count = (name) => client.events.filter(({ event }) => event === name).length;
      const ask = async (ids) => (await client.evaluate('prod', ids.map((id) => question(id, {})))).map(({ value }) => value);
      let changed = 0;
      const change = async () => {
        assert.deepEqual(await ask([gates[changed]]), [false]);
        await server.apply(gate(gates[changed], true));
        changed += 1;
      };
      for (let first = 0; first < 5; first += 1) await change();
      const ready = count('ready');
      while (count('ready') === ready && changed < gates.length) await change();
      await until('the stream is open again', () => ask(gates.slice(0, 1)), () => count('ready') > ready);
      const ended = count('stale');
      await until('all changes have arrived', () => ask(gates.slice(0, changed)), (got) => got.every((truth) => truth));
      assert.equal(count('stale'), ended, 'not only at the end of the next stream');
    });
  }
});

test('generations of hashing agree in how many are inside a share, and not in who', (t) => {
  const [v2, v3] = ['v2 half', 'v3 half'].map((key) => shares.get(key)?.checkout);
  if (!v2 || !v3) return t.skip('needs clients of both');
  assert.notDeepEqual([...v2].sort(), [...v3].sort());
});

after(() => {
  const pad = (text, width) => `${text}`.padEnd(width);
  for (const { spec, rows } of transcripts) {
    console.log(`\n${spec.name} (server with --bucketing ${spec.bucketing})`);
    for (const { step, text, told, took } of rows) {
      console.log(`  ${pad(step, 26)}${`${Math.round(took)} ms`.padStart(9)}  ${text}${told ? ` [${told}]` : ''}`);
    }
  }
  if (transcripts.length > 1) {
    const steps = [...new Set(transcripts.flatMap(({ rows }) => rows.map(({ step }) => step)))];
    console.log(`\nmilliseconds from the server's answer to the client's\n${pad('', 26)}${transcripts.map(({ spec }) => spec.name.padStart(18)).join('')}`);
    for (const step of steps) {
      const cells = transcripts.map(({ rows }) => {
        const row = rows.find((one) => one.step === step);
        return (row ? `${Math.round(row.took)}` : '-').padStart(18);
      });
      console.log(pad(step, 26) + cells.join(''));
    }
  }
});
