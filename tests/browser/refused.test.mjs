// An action that is refused because somebody was faster: in words, in the dialog, and without harm.
import assert from 'node:assert/strict';
import { stage } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, awaitingApproval, gate, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN, GATED)) });

/** Opens a dialog, lets `meanwhile` happen, presses the button, and gives the dialog that stays. */
async function late(person, id, label, meanwhile, fill = async () => {}) {
  person.expectsRefusal();
  await person.go(`/releases/${id}`);
  const dialog = await person.choose(label);
  await fill(dialog);
  await meanwhile();
  await person.button(label, dialog).click();
  await dialog.getByRole('alert').waitFor();
  return dialog;
}

const reason = (text) => (dialog) => dialog.getByLabel('Reason').fill(text);

test('a late skip is refused, because the phase that was shown is the phase that is skipped', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  const dialog = await late(ann, id, 'Skip', () => server.pg('release', 'skip', id, 'tenth', '--as', 'bob'));
  assert.match(await dialog.getByRole('alert').innerText(), /Refused\. phase tenth is not the current one/);
  // It shows what a skip would do now, and nobody has asked for that yet.
  assert.match(await dialog.innerText(), /Leaves phase everyone now/);
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking');
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
  await ann.$('dialog[open] [data-close]').click();
  await ann.$('dialog[open]').waitFor({ state: 'detached' });
});

test('a double click on a skip that is refused does not skip the next phase', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal();
  await ann.go(`/releases/${id}`);
  const dialog = await ann.choose('Skip');
  await server.pg('release', 'skip', id, 'tenth', '--as', 'bob');
  await ann.button('Skip', dialog).click();
  await dialog.getByRole('alert').waitFor();
  // The second half of the click meets the dialog that came with the refusal.
  await ann.button('Skip', dialog).hover();
  await ann.page.mouse.down({ clickCount: 2 });
  await ann.page.mouse.up({ clickCount: 2 });
  assert.ok(await dialog.getByRole('alert').isVisible());
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking');
  // A click of its own is a decision.
  await ann.confirm('Skip');
  await ann.sees('#standing', 'Succeeded');
});

test('a late full roll out is refused, because the release is not what was read', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  const dialog = await late(ann, id, 'Full roll out',
    () => server.pg('release', 'skip', id, 'tenth', '--as', 'bob'), reason('incident 7'));
  assert.match(await dialog.getByRole('alert').innerText(), /the release has changed in the meantime; read it again and decide again/);
  assert.equal(await dialog.getByLabel('Reason').inputValue(), 'incident 7', 'what was typed is kept');
  await ann.confirm('Full roll out');
  await ann.sees('#standing', 'Succeeded');
});

test('a second pause is refused in words', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  const dialog = await late(ann, id, 'Pause', () => server.pg('release', 'pause', id, '--as', 'bob'));
  assert.match(await dialog.getByRole('alert').innerText(), /the release is paused already/);
  assert.match(await dialog.innerText(), /Not possible now\./);
  assert.equal(await ann.button('Pause', dialog).count(), 0);
  await dialog.getByText('Close', { exact: true }).click();
  await ann.sees('#standing', 'paused by bob');
});

test('a late unpause does not end a hold that is newer than what was read', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  await server.pg('release', 'pause', id, '--as', 'bob');
  const ann = await person({ name: 'ann' });
  const dialog = await late(ann, id, 'Unpause', async () => {
    await server.pg('release', 'unpause', id, '--as', 'bob');
    await server.pg('release', 'pause', id, '--as', 'bob', '--reason', 'a second look');
  });
  assert.match(await dialog.getByRole('alert').innerText(), /the release has changed in the meantime/);
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_PAUSED');
});

test('a late approval of a phase that was left is refused', async ({ server, person }) => {
  const id = await awaitingApproval(server);
  const bob = await person({ name: 'bob' });
  const dialog = await late(bob, id, 'Approve',
    () => server.pg('release', 'skip', id, 'prod-eu', '--bypass-approval', '--reason', 'urgent', '--as', 'cleo'));
  assert.match(await dialog.getByRole('alert').innerText(), /phase prod-eu is not the current one/);
});

test('an action on a release that is over is refused, and the page says that it is over', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  const dialog = await late(ann, id, 'Abort',
    () => server.pg('release', 'abort', id, '--reason', 'faster', '--as', 'bob'), reason('wrong flag'));
  assert.match(await dialog.getByRole('alert').innerText(), /the release is over and nothing reopens it/);
  await ann.sees('#standing', 'Aborted');
  assert.equal(await ann.$('#log').getByText('wrong flag').count(), 0);
});

test('what is wrong in a field is said in the dialog', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal(400);
  await ann.go(`/releases/${id}`);
  const dialog = await ann.choose('Abort');
  // As if the browser did not check.
  await dialog.locator('form').evaluate((form) => { form.noValidate = true; });
  await ann.button('Abort', dialog).click();
  await dialog.getByRole('alert').waitFor();
  assert.match(await dialog.getByRole('alert').innerText(), /reason/);
  await dialog.getByLabel('Reason').fill('wrong flag');
  await ann.confirm('Abort');
  await ann.sees('#standing', 'Aborted');
});

test('a dialog of what is gone says so, and is no page inside a page', async ({ server, person }) => {
  await server.apply(gate('gone', 'plain'));
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal(404);
  await ann.go('/flags/gone');
  await ann.$('#do-kill').click();
  const dialog = await ann.dialogNow();
  await server.pg('delete', 'flags/gone', '--as', 'bob');
  await ann.button('Kill', dialog).click();
  await ann.sees('dialog[open]', 'flags/gone does not exist');
  assert.equal(await dialog.locator('header, nav, main').count(), 0);
  await dialog.getByRole('link', { name: 'To the releases' }).click();
  await ann.sees('h1', 'Releases');
});
