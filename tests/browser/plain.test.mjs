// Without JavaScript: plain pages and forms.
import assert from 'node:assert/strict';
import { stage } from './stage.mjs';
import { PLAIN, STANDARD, all, gate, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN)) });

const off = { name: 'ann', javaScriptEnabled: false };

test('everything can be read, with times in UTC, and says that it does not follow', async ({ server, person }) => {
  const id = await underWay(server, 'standard');
  const ann = await person(off);
  await ann.go('/releases');
  assert.match(await ann.$('body').innerText(), /Without JavaScript this page does not follow by itself/);
  await ann.$('#list .name').filter({ hasText: id }).click();
  await ann.sees('#standing', 'staging, baking, 30 min left, ends 12:30 UTC');
  for (const section of ['Who has the change', 'Phases', 'What comes next', 'What it changes', 'What happened']) {
    await ann.sees('h2', section);
  }
  for (const [link, heading] of [['Flags', 'Flags'], ['Pipelines', 'Pipelines']]) {
    await ann.$('.top nav').getByRole('link', { name: link }).click();
    await ann.sees('h1', heading);
  }
});

test('a pause and an abort are done through pages of their own', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person(off);
  await ann.go(`/releases/${id}`);
  await ann.$('.menu summary').click();
  await ann.$('#do-pause').click();
  await ann.sees('h1', `Pause ${id}`);
  await ann.sees('main', 'Holds the release where it is.');
  await ann.page.getByLabel('Reason').fill('a look');
  await ann.button('Pause').click();
  await ann.sees('#standing', 'paused by ann just now: “a look”');
  await ann.$('.menu summary').click();
  await ann.$('#do-abort').click();
  await ann.page.getByLabel('Reason').fill('wrong flag');
  await ann.button('Abort').click();
  await ann.sees('#standing', 'Aborted');
  assert.equal(new URL(ann.page.url()).pathname, `/releases/${id}`);
  await ann.page.reload();
  assert.equal(await ann.$('#log').getByText('“wrong flag”').count() >= 1, true);
});

test('a refusal is a page that says why', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person(off);
  ann.expectsRefusal();
  await ann.go(`/releases/${id}/pause`);
  await server.pg('release', 'pause', id, '--as', 'bob');
  await ann.button('Pause').click();
  await ann.sees('main [role=alert]', 'the release is paused already');
  await ann.page.getByRole('link', { name: 'Close' }).click();
  await ann.sees('#standing', 'paused by bob');
});

test('the list is filtered, a flag asked, killed and released', async ({ server, person }) => {
  await server.apply(gate('by-hand', 'plain'));
  const ann = await person(off);
  await ann.go('/flags/by-hand');
  await ann.page.getByLabel('Environment').fill('prod');
  await ann.button('Ask').click();
  await ann.sees('#evaluate .answer', 'answers off');
  await ann.$('#do-kill').click();
  await ann.button('Kill').click();
  await ann.sees('#head', 'Killed');
  await ann.page.getByRole('link', { name: 'Trigger a release' }).click();
  await ann.page.getByLabel('New answers').fill('featureGate: {defaultValue: true}');
  await ann.button('Show the plan').click();
  await ann.button('Trigger').click();
  await ann.sees('#standing', 'tenth, baking');
  await ann.go('/releases');
  await ann.page.getByLabel('Flag', { exact: true }).fill('by-ha');
  await ann.button('Filter').click();
  assert.deepEqual(await ann.$('#list .name').allInnerTexts(), ['by-hand']);
});
