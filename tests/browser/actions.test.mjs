// Every action on a release, by menu and dialog, as a person does it.
import assert from 'node:assert/strict';
import { stage } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, awaitingApproval, awaitingWindow, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN, GATED)) });

async function at(person, id) {
  await person.go(`/releases/${id}`);
  return person;
}

test('two people approve, having said who they are, and the change goes live', async ({ server, person }) => {
  const id = await awaitingApproval(server);
  const name = async (who, groups) => {
    await who.go('/caller');
    await who.$('#principal').fill(groups ? 'cleo' : 'bob');
    if (groups) await who.$('#groups').fill(groups);
    await who.button('Act as this').click();
    await who.sees('.viewer', groups ? 'Acting as cleo' : 'Acting as bob');
    await at(who, id);
  };
  const [bob, cleo] = [await person(), await person()];
  await name(bob);
  const dialog = await bob.choose('Approve');
  assert.match(await dialog.innerText(), /Records that bob approves phase prod-eu\./);
  assert.match(await dialog.innerText(), /Phase prod-eu needs 1 approval more\./);
  await dialog.getByLabel('Reason').fill('looked at the numbers');
  await bob.confirm('Approve');
  await bob.sees('#standing', '1 given, 1 approval missing');
  await bob.sees('#log', '“looked at the numbers”');
  await name(cleo, 'sre');
  const second = await cleo.choose('Approve');
  assert.match(await second.innerText(), /The change goes live at once in prod-eu \(10 %\)\. Phase prod-eu bakes for 1 h/);
  await cleo.confirm('Approve');
  for (const one of [bob, cleo]) await one.sees('#standing', 'Phase 2 of 3, prod-eu, baking, 1 h left');
  await cleo.sees('#log', 'Approved, for sre');
});

test('who triggered a release is told that they may not approve it', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await awaitingApproval(server));
  await ann.$('.menu summary').click();
  const off = ann.$('#do-approve');
  assert.equal(await off.getAttribute('aria-disabled'), 'true');
  assert.match(await off.innerText(), /Who triggered a release may not approve its phases/);
  assert.equal(await ann.$('#standing').getByRole('link', { name: 'Approve' }).count(), 0);
});

test('rejecting says what it takes back, wants a reason, and ends the release', async ({ server, person }) => {
  const bob = await at(await person({ name: 'bob' }), await awaitingApproval(server));
  const dialog = await bob.choose('Reject');
  assert.match(await dialog.innerText(), /Rejects phase prod-eu and ends the release\./);
  assert.match(await dialog.innerText(), /goes back to what it answered before, in one step, in dev, staging/);
  await bob.button('Reject', dialog).click();
  assert.ok(await dialog.getByLabel('Reason').evaluate((field) => field.matches(':user-invalid, :invalid')));
  await dialog.getByLabel('Reason').fill('not before the sale');
  await bob.confirm('Reject');
  await bob.sees('#standing', 'a reviewer rejected it');
  await bob.sees('#exposure', 'Nobody.');
  await bob.sees('#log', '“not before the sale”');
});

test('a pause stops the bake, and unpausing goes on with what was left', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await at(await person({ name: 'ann' }), id);
  const dialog = await ann.choose('Pause');
  assert.match(await dialog.innerText(), /30 min of the bake of tenth stay left\./);
  await dialog.getByLabel('Reason').fill('looking at a graph');
  await ann.confirm('Pause');
  await ann.sees('#standing', 'paused by ann just now: “looking at a graph”.');
  await server.advance('2h');
  await ann.sees('#standing', '30 min of the bake are left');
  await ann.act('Unpause');
  await ann.sees('#standing', 'baking, 30 min left');
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
});

test('a skip leaves the phase that is shown for the next', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await underWay(server, 'standard'));
  const dialog = await ann.choose('Skip');
  assert.match(await dialog.innerText(), /Leaves phase staging now, before its bake is over/);
  assert.match(await dialog.innerText(), /Phase prod-eu needs 2 approvals\./);
  await ann.confirm('Skip');
  await ann.sees('#standing', 'Phase 2 of 3, prod-eu, awaiting approval: 2 approvals missing');
});

test('skipping a phase that awaits approval asks for a tick and a reason', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await awaitingApproval(server));
  const dialog = await ann.choose('Skip');
  assert.match(await dialog.innerText(), /without applying it: nobody gets the change by it/);
  await dialog.getByLabel('Reason').fill('on record');
  await ann.button('Skip', dialog).click();
  assert.ok(await dialog.locator('form').evaluate((form) => !form.checkValidity()));
  await dialog.getByLabel('Pass over the missing approvals of prod-eu').check();
  await ann.confirm('Skip');
  await ann.sees('#standing', 'everyone, waits for its window');
  await ann.sees('#log', 'Skipped, passing over what was missing');
});

test('overriding a window applies the phase although it is Friday', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await awaitingWindow(server));
  await ann.sees('#standing', 'waits for its window, opens 17 Jun, 07:00');
  const dialog = await ann.choose('Override window');
  assert.match(await dialog.innerText(), /Applies phase everyone now, although its window is closed\./);
  await dialog.getByLabel('Reason').fill('a fix');
  await ann.confirm('Override window');
  await ann.sees('#standing', 'Phase 3 of 3, everyone, baking, 1 h left');
  await ann.sees('#phases', 'passed over');
});

test('adjusting a bake begins with what is left and sets what is asked for', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await at(await person({ name: 'ann' }), id);
  const dialog = await ann.choose('Adjust bake');
  assert.equal(await dialog.getByLabel('minutes').inputValue(), '30');
  await dialog.getByLabel('hours').fill('2');
  await dialog.getByLabel('minutes').fill('5');
  await dialog.getByLabel('Reason').fill('night shift');
  await ann.confirm('Adjust bake');
  await ann.sees('#standing', '2 h 5 min left');
  const again = await ann.choose('Adjust bake');
  for (const unit of ['hours', 'minutes', 'seconds']) await again.getByLabel(unit).fill('0');
  await again.getByLabel('Reason').fill('seen enough');
  await ann.confirm('Adjust bake');
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking');
});

test('a full roll out passes over approvals and windows only when both are ticked', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await awaitingApproval(server));
  const dialog = await ann.choose('Full roll out');
  const text = await dialog.innerText();
  assert.match(text, /Gives the change to everyone, in every environment, now/);
  assert.match(text, /Phases that are not done are skipped: prod-eu, everyone\./);
  await dialog.getByLabel('Reason').fill('incident 7');
  await dialog.getByLabel('Pass over the missing approvals of prod-eu').check();
  await ann.button('Full roll out', dialog).click();
  assert.ok(await dialog.locator('form').evaluate((form) => !form.checkValidity()), 'the window is not ticked');
  await dialog.getByLabel('Pass over the closed windows of everyone').check();
  await ann.confirm('Full roll out');
  await ann.sees('#standing', 'Succeeded');
  await ann.sees('#exposure', 'Everyone, in every environment.');
});

test('an abort names the environments that lose the change, and is final', async ({ server, person }) => {
  const ann = await at(await person({ name: 'ann' }), await underWay(server, 'standard'));
  const dialog = await ann.choose('Abort');
  const text = await dialog.innerText();
  assert.match(text, /goes back to what it answered before, in one step, in dev, staging/);
  assert.match(text, /This is final/);
  await dialog.getByLabel('Reason').fill('wrong flag');
  await ann.confirm('Abort');
  await ann.sees('#standing', 'Aborted just now: aborted on request; the flag answers as before.');
});

test('what is not possible now is shown and says why not', async ({ server, person }) => {
  const ann = await person({ name: 'ann' });
  const check = async (id, reasons) => {
    await at(ann, id);
    await ann.$('.menu summary').click();
    for (const [entry, why] of Object.entries(reasons)) {
      assert.match(await ann.$(`#do-${entry}[aria-disabled=true]`).innerText(), why, entry);
    }
    return Object.keys(reasons).length;
  };
  await check(await underWay(server, 'plain'), {
    approve: /Phase tenth does not await approval/, reject: /Phase tenth does not await approval/,
    unpause: /The release is not paused/, 'override-window': /Phase tenth does not await its window/,
  });
  const paused = await underWay(server, 'plain');
  await server.pg('release', 'pause', paused, '--as', 'bob');
  await check(paused, {
    pause: /The release is paused already/, skip: /The release is paused; unpause it first/,
    'full-rollout': /The release is paused; unpause it first/,
  });
  const waiting = await awaitingWindow(server);
  await check(waiting, { 'adjust-bake': /Phase everyone does not bake/, skip: /The release window is closed for everyone/ });
  await server.pg('release', 'abort', waiting, '--reason', 'over', '--as', 'bob');
  const all = ['approve', 'reject', 'pause', 'unpause', 'skip', 'override-window', 'adjust-bake', 'full-rollout', 'abort'];
  await check(waiting, Object.fromEntries(all.map((entry) => [entry, /The release is over and nothing reopens it/])));
});

test('a double click does it once', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await at(await person({ name: 'ann' }), id);
  const dialog = await ann.choose('Skip');
  await ann.button('Skip', dialog).dblclick();
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking');
  await ann.$('dialog[open]').waitFor({ state: 'detached' });
  const { currentPhaseId } = await server.release(id);
  assert.equal(currentPhaseId ?? 'everyone', 'everyone');
  assert.equal(await ann.$('#log').getByText('Skipped', { exact: true }).count(), 1);
});

test('a form that is sent again does it once', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await at(await person({ name: 'ann' }), id);
  const dialog = await ann.choose('Skip');
  const sent = await dialog.locator('form').evaluate(async (form) => {
    const send = () => fetch(form.action, {
      method: 'POST', headers: { 'x-phasegate-fragment': '1' }, body: new URLSearchParams(new FormData(form)),
    });
    const answers = await Promise.all([send(), send(), send()]);
    return answers.map((answer) => answer.status);
  });
  assert.deepEqual(sent, [204, 204, 204]);
  await ann.sees('#standing', 'Phase 2 of 2, everyone, baking');
});
