// Flags: what they answer, the kill switch, and triggering a release from their page.
import assert from 'node:assert/strict';
import { stage } from './stage.mjs';
import { PLAIN, STANDARD, all, gate, underWay } from './world.mjs';

const CONFIG = `
kind: Flag
name: flags/ranking
description: How results are ranked.
pipeline: pipelines/plain
dynamicConfig:
  defaultValue: {model: classic, boost: 1}
`;

const { test } = stage({ setUp: (server) => server.apply(all(STANDARD, PLAIN, CONFIG)) });

test('the list of flags says what each answers where, and follows its release', async ({ server, person }) => {
  const id = await underWay(server, 'standard');
  const ann = await person();
  await ann.go('/flags');
  const row = ann.$('#flags tbody tr').filter({ hasText: id });
  assert.match(await row.innerText(), /dev: on\s+prod-eu: off\s+staging: on/);
  await server.pg('release', 'abort', id, '--as', 'bob', '--reason', 'enough');
  await row.filter({ hasText: 'dev: off' }).waitFor();
});

test('a flag can be asked what it answers to somebody, and says why', async ({ server, person }) => {
  const id = await underWay(server, 'standard');
  const ann = await person();
  await ann.go(`/flags/${id}`);
  const ask = async (environment, context) => {
    await ann.page.getByLabel('Environment', { exact: true }).fill(environment);
    await ann.page.getByLabel('Context, as key=value lines or JSON').fill(context);
    await ann.button('Ask').click();
    await ann.page.waitForURL((url) => url.searchParams.get('environment') === environment && url.searchParams.get('context').replaceAll('\r', '') === context);
    return ann.$('#evaluate .answer').innerText();
  };
  assert.match(await ask('staging', 'targetingKey=user-1'), /answers on\.[^]*by its phase staging/);
  assert.match(await ask('dev', ''), /answers on\.[^]*its pipeline does not govern this environment/);
  assert.match(await ask('prod-eu', '{"targetingKey": "user-1"}'), /answers off\.[^]*does not reach this context/);
  assert.match(await ask('prod-eu', '{"half": '), /Refused\.[^]*context/);
  assert.equal(await ann.page.getByLabel('Context, as key=value lines or JSON').inputValue(), '{"half": ');
  // The answer follows as well.
  await ask('staging', 'tier=beta');
  await server.pg('release', 'abort', id, '--as', 'bob', '--reason', 'enough');
  await ann.sees('#evaluate .answer', 'answers off');
});

test('an answer is explained rule by rule, with its bucket, and follows the release', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person();
  await ann.go(`/flags/${id}?environment=prod&context=${encodeURIComponent('targetingKey=user-1')}`);
  const list = ann.page.getByRole('list', { name: 'Rules that were asked, in order' });
  assert.match(await list.innerText(), /^tenth, of the phase tenth: (matched, )?bucket \d{1,4} of 10000, (in|out)side its 10 %$/);
  await ann.sees('#evaluate', `The bucket of targetingKey is the hash of releases/${id}:targetingKey, generation v3.`);
  await server.pg('release', 'skip', id, 'tenth', '--as', 'bob');
  await ann.sees('#evaluate .answer', 'answers on');
  await ann.sees('#evaluate', /: matched/);
  await server.pg('kill', id);
  await ann.sees('#evaluate .answer', 'Because the flag is killed');
  assert.equal(await list.count(), 0);
});

test('the kill switch is turned and lifted in dialogs, and the page says that it is on', async ({ server, person }) => {
  await server.apply(gate('switched', 'plain'));
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/switched');
  await ann.$('#do-kill').click();
  const dialog = await ann.dialogNow();
  assert.match(await dialog.innerText(), /switched answers off to everyone, in every environment, at once, until the switch is lifted/);
  await dialog.getByLabel('Reason').fill('errors');
  await ann.confirm('Kill');
  await ann.sees('#head', 'It answers its safe value to everyone');
  await ann.sees('#head', '“errors”');
  await ann.$('#do-revive').click();
  await ann.dialogNow();
  await ann.confirm('Lift kill switch');
  await ann.$('#do-kill').waitFor();
  assert.equal(await ann.$('#head .chip').count(), 0);
});

test('a release is triggered by writing new answers, seeing the plan, and confirming it', async ({ server, person }) => {
  await server.apply(gate('triggered', 'standard'));
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/triggered');
  await ann.page.getByRole('link', { name: 'Trigger a release' }).click();
  const answers = ann.page.getByLabel('New answers');
  assert.match(await answers.inputValue(), /^featureGate:\n {2}defaultValue: false\n?$/, 'it begins with what is');
  await answers.fill('featureGate:\n  defaultValue: true\n');
  await ann.page.getByLabel('Description').fill('Turn it on (SHOP-42)');
  await ann.button('Show the plan').click();
  await ann.sees('h1', 'Trigger a release of triggered?');
  await ann.sees('main', 'Goes out to production. Tell whoever is on call.');
  await ann.sees('del', 'everyone → off');
  await ann.sees('ins', 'everyone → on');
  const timeline = await ann.$('.timeline').innerText();
  assert.match(timeline, /staging goes live, bakes for 30 min[^]*prod-eu goes live, bakes for 1 h[^]*needs 2 approvals, 1 from sre[^]*everyone goes live[^]*Everyone has the change/);
  await assert.rejects(server.release('triggered-1'));
  await ann.button('Back').click();
  assert.match(await answers.inputValue(), /true/, 'what was written is kept');
  assert.equal(await ann.page.getByLabel('Description').inputValue(), 'Turn it on (SHOP-42)');
  await ann.button('Show the plan').click();
  await ann.button('Trigger').click();
  await ann.sees('#standing', 'Phase 1 of 3, staging, baking');
  await ann.sees('#head', 'Turn it on (SHOP-42)');
  await ann.sees('#head', 'Started by ann');
});

test('an error in the new answers names its line, and nothing of what was written is lost', async ({ server, person }) => {
  await server.apply(gate('mistaken', 'plain'));
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal(400);
  ann.expectsRefusal(409);
  await ann.go('/flags/mistaken/release');
  const answers = ann.page.getByLabel('New answers');
  const check = async (text, problem) => {
    await answers.fill(text);
    await ann.button('Show the plan').click();
    await ann.sees('#problem', problem);
    assert.equal((await answers.inputValue()).replaceAll('\r', '').trimEnd(), text.trimEnd());
    assert.equal(await answers.getAttribute('aria-invalid'), 'true');
  };
  await check('featureGate:\n  defaultValue: perhaps\n', /new answers:2/);
  await check('featureGate:\n  defaultValue: true\n  rules:\n    - {targeting: {id: x, conditions: [{attribute: "", operator: CONDITION_OPERATOR_IN, values: [a]}]}, value: true}\n', /new answers:4/);
  await check('dynamicConfig: {defaultValue: {a: 1}}', /Refused/);
  await check('featureGate: {defaultValue: false}', /the change equals what flags\/mistaken answers already/);
});

test('a trigger of a flag that has a release can queue behind it or take its place', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal(409);
  const trigger = async (choice) => {
    await ann.go(`/flags/${id}/release`);
    await ann.page.getByLabel('New answers').fill('featureGate: {defaultValue: true}');
    if (choice) await ann.page.getByLabel(choice).check();
    await ann.button('Show the plan').click();
  };
  await trigger();
  await ann.sees('#problem', 'has an active release');
  await trigger('Queue this one behind it');
  await ann.button('Trigger').click();
  await ann.sees('#standing', 'Pending, behind another release of the flag.');
  await trigger('Abort it and all that wait, and start this one');
  await ann.button('Trigger').click();
  await ann.sees('#standing', 'Phase 1 of 2, tenth, baking');
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_ABORTED');
});

test('a config is released with its values shown line by line', async ({ person }) => {
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/ranking/release');
  await ann.page.getByLabel('New answers').fill('dynamicConfig: {defaultValue: {model: blended, boost: 1.5}}');
  await ann.button('Show the plan').click();
  await ann.sees('del', '"model": "classic"');
  await ann.sees('ins', '"model": "blended"');
  await ann.button('Trigger').click();
  await ann.sees('#change', '"boost": 1.5');
});

test('what is triggered twice by one form is one release', async ({ server, person }) => {
  await server.apply(gate('once', 'plain'));
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/once/release');
  await ann.page.getByLabel('New answers').fill('featureGate: {defaultValue: true}');
  await ann.button('Show the plan').click();
  const where = await ann.$('main form').evaluate(async (form) => {
    const body = new URLSearchParams(new FormData(form));
    body.set('step', 'trigger');
    const send = async () => (await fetch(form.action, { method: 'POST', body })).url;
    return [await send(), await send()];
  });
  assert.equal(where[0], where[1]);
  assert.match(where[0], /\/releases\//);
  const list = JSON.parse(await server.pg('release', 'list', '-o', 'json'));
  assert.equal((list.releases ?? list).filter((release) => release.flag === 'flags/once').length, 1);
});

test('a plan warns of an environment that nothing else names', async ({ server, person }) => {
  await server.apply(gate('misspelt', 'plain'));
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/misspelt/release');
  await ann.page.getByLabel('New answers').fill('featureGate:\n  rules:\n    - {targeting: {id: a, environments: [prdo]}, value: true}\n');
  await ann.button('Show the plan').click();
  await ann.sees('main .notice', 'flags/misspelt names the environment prdo, and nothing else does');
});

test('a flag without a pipeline offers them all', async ({ server, person }) => {
  await server.apply('kind: Flag\nname: flags/loose\nfeatureGate: {defaultValue: false}\n');
  const ann = await person({ name: 'ann' });
  await ann.go('/flags/loose/release');
  await ann.page.getByLabel('New answers').fill('featureGate: {defaultValue: true}');
  await ann.page.getByLabel('Pipeline').selectOption('plain');
  await ann.button('Show the plan').click();
  await ann.button('Trigger').click();
  await ann.sees('#head', 'along plain');
});
