// Pages follow what happens elsewhere, without being loaded again.
import assert from 'node:assert/strict';
import { Server, stage, until } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, awaitingApproval, gate, turnOn, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN, GATED)) });

/** Opens a page and marks it: a page that was loaded again has lost the mark. */
async function open(person, path) {
  await person.go(path);
  await person.page.evaluate(() => { globalThis.mark = 'same page'; });
}

async function isSame(person) {
  assert.equal(await person.page.evaluate(() => globalThis.mark), 'same page', 'the page was loaded again');
}

test('a release follows what is done to it elsewhere', async ({ server, person }) => {
  const id = await underWay(server, 'standard');
  const ann = await person();
  await open(ann, `/releases/${id}`);
  await server.pg('release', 'pause', id, '--as', 'bob', '--reason', 'lunch');
  await ann.sees('#standing', 'paused by bob just now: “lunch”');
  await ann.sees('#announcement', 'paused by bob');
  assert.match(await ann.page.title(), /^Paused /);
  await server.pg('release', 'unpause', id, '--as', 'bob');
  await ann.sees('#standing', 'staging, baking, 30 min left');
  await server.pg('release', 'signal', id, 'staging', 'error-rate', 'fail', '--as', 'prometheus', '--reason', '5xx at 2 %');
  await ann.sees('#standing', 'paused by the guard error-rate');
  await ann.sees('#phases', 'FAIL');
  await server.pg('release', 'abort', id, '--reason', 'enough', '--as', 'bob');
  await ann.sees('#standing', 'Aborted');
  await ann.sees('#log', '“enough”');
  await isSame(ann);
});

test('the list follows releases that start, wait and end', async ({ server, person }) => {
  const ann = await person();
  await open(ann, '/releases');
  const id = await underWay(server, 'standard');
  await ann.sees('#list tr', id);
  const row = ann.$('#list tr').filter({ hasText: id });
  await server.pg('release', 'skip', id, 'staging', '--as', 'bob');
  await row.getByText('Awaiting approval', { exact: false }).first().waitFor();
  await server.pg('release', 'abort', id, '--reason', 'enough', '--as', 'bob');
  await row.waitFor({ state: 'detached' });
  await isSame(ann);
});

test('an open menu, the focus and what is being typed survive a change', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person();
  await open(ann, `/releases/${id}`);
  await ann.$('.menu summary').click();
  await ann.$('#do-abort').focus();
  await server.pg('release', 'pause', id, '--as', 'bob');
  // The menu is in the region that tells what is possible.
  await ann.$('#do-unpause:not([aria-disabled])').waitFor();
  assert.ok(await ann.$('#menu').evaluate((menu) => menu.open), 'the menu stays open');
  assert.equal(await ann.page.evaluate(() => document.activeElement.id), 'do-abort');
  await isSame(ann);

  await open(ann, '/releases');
  await ann.$('#text').fill('half a wo');
  const other = await underWay(server, 'plain');
  await ann.sees('#list tr', other);
  assert.equal(await ann.$('#text').inputValue(), 'half a wo');
  assert.equal(await ann.page.evaluate(() => document.activeElement.id), 'text');

  await open(ann, `/flags/${id}`);
  await ann.$('#context').fill('tier=be');
  await ann.page.keyboard.press('Home');
  await server.pg('kill', id, '--reason', 'a drill', '--as', 'bob');
  await ann.sees('#head', 'Killed');
  await ann.page.keyboard.type('the ');
  assert.equal(await ann.$('#context').inputValue(), 'the tier=be');
  await isSame(ann);
});

test('the focus on a row of the list survives a change, and goes to the content if the row is gone', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person();
  await open(ann, '/releases');
  await ann.$('#list .name').filter({ hasText: id }).focus();
  const other = await underWay(server, 'plain');
  await ann.sees('#list tr', other);
  assert.equal(await ann.page.evaluate(() => document.activeElement.textContent), id);
  await server.pg('release', 'abort', id, '--reason', 'enough', '--as', 'bob');
  await ann.$('#list tr').filter({ hasText: id }).waitFor({ state: 'detached' });
  assert.equal(await ann.page.evaluate(() => document.activeElement.id), 'main');
});

test('a dialog and what is typed into it survive a change', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  await open(ann, `/releases/${id}`);
  const dialog = await ann.choose('Abort');
  await dialog.getByLabel('Reason').fill('because');
  await server.pg('release', 'pause', id, '--as', 'bob');
  await ann.sees('#standing', 'paused by bob');
  assert.equal(await dialog.getByLabel('Reason').inputValue(), 'because');
  await ann.confirm('Abort');
  await ann.sees('#standing', 'Aborted');
  await isSame(ann);
});

test('a rehearsal counts down as its clock is moved, and the bar with it', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person();
  await open(ann, `/releases/${id}`);
  await ann.sees('#standing .left', '30 min');
  const bar = ann.$('#standing progress');
  assert.equal(await bar.evaluate((progress) => progress.value), 0);
  await server.advance('10m');
  await ann.sees('#standing .left', '20 min');
  assert.equal(await bar.evaluate((progress) => progress.value), 600_000);
  await server.advance('17m30s');
  await ann.sees('#standing .left', '2 min 30 s');
  await server.advance('2m30s');
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking, 30 min left');
  await isSame(ann);
});

test('by the system\'s clock the bar moves and the time counts down without a message', async ({ t, person }) => {
  const server = await Server.start({ clock: 'system' });
  t.after(() => server.stop());
  await server.apply(all(PLAIN, gate('moving', 'plain')));
  await server.trigger(turnOn('moving'), '--id', 'moving', '--as', 'ann');
  const ann = await person({ url: server.url });
  await open(ann, '/releases/moving');
  const messages = await ann.page.evaluate(() => {
    const section = document.getElementById('standing');
    globalThis.swaps = 0;
    new MutationObserver((changes) => {
      globalThis.swaps += changes.filter((change) => change.target === section).length;
    }).observe(section, { childList: true });
    return document.querySelector('#standing progress').value;
  });
  const left = await ann.$('#standing .left').innerText();
  await ann.page.waitForFunction(([value, text]) => {
    const bar = document.querySelector('#standing progress');
    return bar.value >= value + 2000 && document.querySelector('#standing .left').textContent !== text;
  }, [messages, left]);
  assert.match(await ann.$('#standing .left').innerText(), /^29 min \d+ s$/);
  assert.equal(await ann.page.evaluate(() => globalThis.swaps), 0, 'nothing was sent for it');
  await isSame(ann);
});

test('the title counts the releases that await approval', async ({ server, person }) => {
  const ann = await person();
  await open(ann, '/releases');
  const count = async () => Number(/^\((\d+)\)/.exec(await ann.page.title())?.[1] ?? 0);
  const before = await count();
  await awaitingApproval(server);
  await until('one more awaits approval', async () => (await count()) === before + 1);
  await isSame(ann);
});

test('the page of a flag and of a pipeline follow too', async ({ server, person }) => {
  const [ann, bob] = [await person(), await person()];
  await server.apply(gate('followed', 'plain'));
  await open(ann, '/flags/followed');
  await open(bob, '/pipelines/plain');
  await server.trigger(turnOn('followed'), '--id', 'followed-1', '--as', 'cleo');
  await ann.sees('#releases', 'followed-1');
  await ann.sees('#answers', '10 %');
  await server.apply(gate('newcomer', 'plain'));
  await bob.sees('#pipeline', 'newcomer');
  await isSame(ann);
  await isSame(bob);
});

test('a page of what is deleted says so, and keeps what was there', async ({ server, person }) => {
  const ann = await person();
  await server.apply(gate('passing', 'plain'));
  await open(ann, '/flags/passing');
  await server.pg('delete', 'flags/passing');
  await ann.sees('#connection', 'You see what was here before: flags/passing does not exist');
  await ann.sees('#head', 'passing');
  await isSame(ann);
});

test('a page that the browser had put aside follows again', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person();
  await open(ann, `/releases/${id}`);
  await ann.page.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
  await server.pg('release', 'pause', id, '--as', 'bob');
  await ann.page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
  await ann.sees('#standing', 'paused by bob');
  await isSame(ann);
});
