// What axe-core finds on every page: nothing, of any impact.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Server, stage } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, awaitingApproval, awaitingWindow, gate, turnOn, underWay } from './world.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const releases = {};

async function setUp(server) {
  await server.apply(all(STANDARD, PLAIN, GATED, gate('idle', 'standard', 'Nothing happens to it')));
  releases.baking = await underWay(server, 'standard', { description: 'With a description (SHOP-42)' });
  releases.approval = await awaitingApproval(server, 'bob');
  await server.pg('release', 'approve', releases.approval, 'prod-eu', '--as', 'cleo', '--groups', 'sre', '--reason', 'fine');
  releases.window = await awaitingWindow(server);
  releases.paused = await underWay(server, 'standard');
  await server.pg('release', 'signal', releases.paused, 'staging', 'error-rate', 'fail', '--as', 'prometheus', '--reason', '5xx at 2 %');
  releases.succeeded = await underWay(server, 'plain');
  await server.pg('release', 'full-rollout', releases.succeeded, '--reason', 'tested elsewhere', '--as', 'ann');
  releases.aborted = await underWay(server, 'plain');
  await server.pg('release', 'abort', releases.aborted, '--reason', 'wrong flag', '--as', 'ann');
  releases.failed = await underWay(server, 'gated');
  await server.pg('release', 'reject', releases.failed, 'everyone', '--reason', 'not now', '--as', 'bob');
  releases.pending = `${releases.baking}-next`;
  await server.trigger(turnOn(releases.baking), '--id', releases.pending, '--on-conflict', 'queue', '--as', 'ann');
  await server.pg('kill', releases.aborted, '--reason', 'a drill', '--as', 'ann');
}

const { test } = stage({ setUp });

const LOOKS = {
  'in the light': {},
  // Other colours, nothing else.
  'in the dark': { colorScheme: 'dark', rules: ['color-contrast'] },
  // Another layout: one page of each kind.
  'on a phone': { viewport: { width: 360, height: 740 }, few: true },
};

/** Everything that axe-core finds wrong with what is shown now, by all rules or by some. */
async function check(person, what, rules) {
  await person.page.evaluate(AXE);
  const { violations } = await person.page.evaluate((runOnly) => globalThis.axe.run(document, {
    resultTypes: ['violations'], ...(runOnly && { runOnly }),
  }), rules);
  const found = violations.flatMap(({ id, impact, nodes }) => nodes.map((node) => `${impact} ${id}: ${node.html.slice(0, 120)} ${node.failureSummary.replaceAll('\n', ' ')}`));
  assert.deepEqual(found, [], what);
}

for (const [look, { rules, few, ...options }] of Object.entries(LOOKS)) {
  test(`every page is accessible ${look}`, async ({ person }) => {
    const ann = await person({ ...options, name: 'ann' });
    const shown = few ? [releases.approval] : Object.values(releases);
    const pages = ['/releases?state=all', '/releases?text=nothing', ...shown.map((id) => `/releases/${id}`),
      '/flags', `/flags/${releases.baking}?environment=staging&context=targetingKey%3Duser-1`, `/flags/${releases.aborted}`,
      `/flags/${releases.baking}/release`, '/pipelines', '/pipelines/standard', '/caller', `/releases/${releases.baking}/abort`];
    for (const path of pages) {
      await ann.go(path);
      await check(ann, path, rules);
    }
  });

  test(`the menu, every dialog, a refusal and a plan are accessible ${look}`, async ({ person }) => {
    const dan = await person({ ...options, name: 'dan' });
    const open = async (id, label) => {
      await dan.go(`/releases/${id}`);
      await dan.choose(label);
      await check(dan, label, rules);
    };
    await dan.go(`/releases/${releases.approval}`);
    await dan.$('.menu summary').click();
    await check(dan, 'the open menu', rules);
    await open(releases.approval, 'Approve');
    if (!few) {
      await open(releases.approval, 'Reject');
      await open(releases.approval, 'Full roll out');
      await open(releases.window, 'Override window');
      await open(releases.paused, 'Unpause');
      await open(releases.baking, 'Pause');
      await open(releases.baking, 'Skip');
      await open(releases.baking, 'Adjust bake');
    }
    await open(releases.baking, 'Abort');
    dan.expectsRefusal(400);
    await dan.$('dialog form').evaluate((form) => { form.noValidate = true; });
    await dan.button('Abort', dan.$('dialog')).click();
    await dan.$('dialog [role=alert]').waitFor();
    await check(dan, 'a refusal', rules);
    await dan.go(`/flags/idle`);
    await dan.$('#do-kill').click();
    await dan.dialogNow();
    await check(dan, 'the kill switch', rules);
    await dan.go('/flags/idle/release');
    await dan.page.getByLabel('New answers').fill('featureGate: {defaultValue: maybe}');
    await dan.button('Show the plan').click();
    await dan.$('#problem').waitFor();
    await check(dan, 'new answers with an error', rules);
    await dan.page.getByLabel('New answers').fill('featureGate: {defaultValue: true}');
    await dan.button('Show the plan').click();
    await dan.$('.timeline').waitFor();
    await check(dan, 'a plan', rules);
    dan.expectsRefusal(404);
    await dan.go('/nothing');
    await check(dan, 'not found', rules);
  });
}

test('a server that has nothing yet, and a lost connection, are accessible', async ({ t, person }) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const ann = await person({ url: server.url });
  for (const path of ['/flags', '/pipelines', '/releases']) {
    await ann.go(path);
    await check(ann, `empty ${path}`);
  }
  ann.expects(/^console: Failed to load resource/, /^failed: /);
  await server.stop('SIGKILL');
  await ann.sees('#connection', 'Connection lost');
  await check(ann, 'connection lost');
});

test('every field has a label, every page one main heading, and what changes is announced', async ({ server, person }) => {
  const ann = await person({ name: 'ann' });
  for (const path of ['/releases', `/releases/${releases.window}`, '/flags', '/flags/idle', '/flags/idle/release', '/pipelines', '/caller']) {
    await ann.go(path);
    assert.equal(await ann.$('h1').count(), 1, path);
    assert.equal(await ann.$('html').getAttribute('lang'), 'en');
    assert.match(await ann.page.title(), /Phasegate/);
    const unnamed = await ann.page.evaluate(() => [...document.querySelectorAll('input:not([type=hidden]), textarea, select')]
      .filter((field) => field.labels.length === 0).map((field) => field.outerHTML));
    assert.deepEqual(unnamed, [], path);
  }
  await ann.go(`/releases/${releases.window}`);
  await ann.sees('#standing', 'waits for its window');
  await server.pg('release', 'pause', releases.window, '--reason', 'weekend', '--as', 'bob');
  await ann.sees('#announcement[role=status]', /paused by bob.*“weekend”/);
});
