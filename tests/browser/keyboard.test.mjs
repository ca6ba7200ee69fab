// By keyboard alone: no test here touches a mouse.
import assert from 'node:assert/strict';
import { stage, until } from './stage.mjs';
import { PLAIN, STANDARD, all, awaitingApproval, gate, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN)) });

const focus = (person) => person.page.evaluate(() => {
  const element = document.activeElement;
  return element.id && element.id !== 'actions' ? element.id : element.getAttribute('aria-label') || element.textContent.trim();
});

/** Presses a key until something has the focus. */
async function walk(person, key, to) {
  for (let step = 0; step < 80; step += 1) {
    if (await focus(person) === to) return;
    await person.page.keyboard.press(key);
  }
  assert.fail(`${key} never reaches ${to}`);
}

const press = (person, ...keys) => keys.reduce((before, key) => before.then(() => person.page.keyboard.press(key)), Promise.resolve());

test('from the list to a release, through its menu and a dialog, and back to where one was', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  await ann.go('/releases');
  await walk(ann, 'Tab', id);
  await press(ann, 'Enter');
  await ann.sees('#standing', 'baking');
  await walk(ann, 'Tab', 'Actions');
  await press(ann, 'Enter');
  await walk(ann, 'ArrowDown', 'do-abort');
  await press(ann, 'Enter');
  await ann.dialogNow();
  assert.equal(await focus(ann), 'reason', 'the dialog begins where one writes');
  await ann.page.keyboard.type('wrong flag');
  await walk(ann, 'Tab', 'Abort');
  await press(ann, 'Enter');
  await ann.sees('#standing', 'Aborted');
  await until('the focus is back at the menu', async () => await focus(ann) === 'Actions');
});

test('Escape closes a menu and a dialog, and does nothing else', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  await ann.go(`/releases/${id}`);
  await walk(ann, 'Tab', 'Actions');
  await press(ann, 'Enter', 'ArrowDown', 'Escape');
  assert.equal(await ann.$('#menu').evaluate((menu) => menu.open), false);
  assert.equal(await focus(ann), 'Actions');
  await press(ann, 'Enter');
  await walk(ann, 'ArrowDown', 'do-pause');
  await press(ann, 'Enter');
  await ann.dialogNow();
  await press(ann, 'Escape');
  await ann.$('dialog[open]').waitFor({ state: 'detached' });
  await until('the focus is back at the menu', async () => await focus(ann) === 'Actions');
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
});

test('arrows walk through the whole menu and round, also over what is not possible now', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  await ann.go(`/releases/${id}`);
  await walk(ann, 'Tab', 'Actions');
  await press(ann, 'Enter');
  const walked = [];
  for (let step = 0; step < 10; step += 1) {
    await press(ann, 'ArrowDown');
    walked.push(await focus(ann));
  }
  assert.deepEqual(walked, ['do-approve', 'do-reject', 'do-pause', 'do-unpause', 'do-skip', 'do-override-window',
    'do-adjust-bake', 'do-full-rollout', 'do-abort', 'Actions']);
  await press(ann, 'ArrowUp');
  assert.equal(await focus(ann), 'do-abort');
  // What is not possible does nothing.
  await walk(ann, 'ArrowUp', 'do-approve');
  await press(ann, 'Enter');
  assert.equal(await ann.$('dialog[open]').count(), 0);
});

test('the focus stays inside an open dialog', async ({ server, person }) => {
  const ann = await person({ name: 'ann' });
  await ann.go(`/releases/${await awaitingApproval(server)}`);
  await walk(ann, 'Tab', 'Actions');
  await press(ann, 'Enter');
  await walk(ann, 'ArrowDown', 'do-full-rollout');
  await press(ann, 'Enter');
  await ann.dialogNow();
  for (let step = 0; step < 12; step += 1) {
    await press(ann, 'Tab');
    assert.ok(await ann.page.evaluate(() => {
      const active = document.activeElement;
      return active === document.body || document.getElementById('dialog').contains(active);
    }), 'what lies behind is out of reach');
  }
});

test('a refusal keeps the focus in the dialog', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal();
  await ann.go(`/releases/${id}`);
  await walk(ann, 'Tab', 'Actions');
  await press(ann, 'Enter');
  await walk(ann, 'ArrowDown', 'do-skip');
  await press(ann, 'Enter');
  const dialog = await ann.dialogNow();
  await server.pg('release', 'skip', id, 'tenth', '--as', 'bob');
  await walk(ann, 'Tab', 'Skip');
  await press(ann, 'Enter');
  await dialog.getByRole('alert').waitFor();
  assert.equal(await focus(ann), 'reason');
});

test('one can skip to the content, and the focus is always seen', async ({ server, person }) => {
  await underWay(server, 'plain');
  const ann = await person();
  await ann.go('/releases');
  await press(ann, 'Tab');
  assert.equal(await focus(ann), 'Skip to content');
  assert.ok(await ann.$('.skip').evaluate((link) => link.getBoundingClientRect().top >= 0), 'the link comes into view');
  await press(ann, 'Enter');
  assert.equal(await focus(ann), 'main');
  await press(ann, 'Tab');
  assert.equal(await focus(ann), 'text');
  const outline = await ann.$('#text').evaluate((field) => getComputedStyle(field).outlineStyle);
  assert.equal(outline, 'solid');
});

test('a flag is killed, asked and released by keyboard', async ({ server, person }) => {
  await server.apply(gate('typed', 'plain'));
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/typed');
  await walk(ann, 'Tab', 'do-kill');
  await press(ann, 'Enter');
  await ann.dialogNow();
  await ann.page.keyboard.type('a drill');
  await walk(ann, 'Tab', 'Kill');
  await press(ann, 'Enter');
  await ann.sees('#head', '“a drill”');
  await ann.$('dialog[open]').waitFor({ state: 'detached' });
  await walk(ann, 'Tab', 'Trigger a release');
  await press(ann, 'Enter');
  await ann.sees('h1', 'Trigger a release of typed');
  await walk(ann, 'Tab', 'new-answers');
  await press(ann, 'Control+A');
  await ann.page.keyboard.type('featureGate: {defaultValue: true}');
  await walk(ann, 'Tab', 'Show the plan');
  await press(ann, 'Enter');
  await ann.sees('h1', '?');
  await walk(ann, 'Tab', 'Trigger');
  await press(ann, 'Enter');
  await ann.sees('#standing', 'baking');
});
