// What others write is text, what other sites send is refused, and every answer says how it may be used.
import assert from 'node:assert/strict';
import { stage } from './stage.mjs';
import { PLAIN, all, underWay } from './world.mjs';

const { test } = stage({ setUp: (server) => server.apply(PLAIN) });

/** Executes if it ever becomes markup, in an element or an attribute. */
const CANARY = '"\'><img src=x onerror=hit=1>';
const yaml = JSON.stringify(CANARY);

const HOSTILE = all(`
kind: Pipeline
name: pipelines/hostile
description: ${yaml}
triggerNotice: ${yaml}
phases:
  - id: first
    rules: [{id: some, environments: [prod], conditions: [{attribute: ${yaml}, operator: CONDITION_OPERATOR_IN, values: [${yaml}]}]}]
    bakeDuration: 60s
    windows: {timeZone: UTC, blackouts: [{startTime: "2031-01-01T00:00:00Z", endTime: "2031-01-02T00:00:00Z", note: ${yaml}}]}
    guards: [{id: slo, onFail: GUARD_ACTION_PAUSE}]
  - id: last
    rules: [{id: all}]
`, `
kind: Flag
name: flags/hostile
description: ${yaml}
pipeline: pipelines/hostile
dynamicConfig:
  defaultValue: {${yaml}: ${yaml}}
  rules: [{targeting: {id: r, conditions: [{attribute: ${yaml}, operator: CONDITION_OPERATOR_IN, values: [${yaml}]}]}, value: {a: ${yaml}}}]
`);

const RELEASE = `
kind: Release
flag: flags/hostile
description: ${yaml}
labels: {team: ${yaml}}
dynamicConfig: {defaultValue: {new: ${yaml}}}
`;

test('markup that somebody wrote is shown as what it is, everywhere, and never runs', async ({ server, person }) => {
  await server.apply(HOSTILE);
  await server.trigger(RELEASE, '--id', 'hostile-1', '--as', CANARY);
  await server.pg('release', 'signal', 'hostile-1', 'first', 'slo', 'fail', '--reason', CANARY, '--as', CANARY);
  await server.pg('release', 'unpause', 'hostile-1', '--reason', CANARY, '--as', 'bob');
  await server.pg('release', 'pause', 'hostile-1', '--reason', CANARY, '--as', CANARY);
  const ann = await person({ name: CANARY, groups: `${CANARY},sre` });
  const query = encodeURIComponent(CANARY);
  const pages = [
    '/releases', '/releases/hostile-1', '/flags', '/flags/hostile', '/pipelines', '/pipelines/hostile', '/caller',
    '/flags/hostile/release', '/releases/hostile-1/abort',
    `/releases?text=${query}&flag=${query}&pipeline=${query}&who=${query}`,
    `/flags/hostile?environment=${query}&context=${query}`,
    `/flags/hostile?environment=prod&context=${encodeURIComponent(JSON.stringify({ [CANARY]: CANARY }))}`,
  ];
  ann.expectsRefusal(400);
  for (const path of pages) {
    await ann.go(path);
    const said = await ann.page.evaluate(() => document.documentElement.textContent
      + [...document.querySelectorAll('input, textarea')].map((field) => field.value).join());
    assert.ok(said.includes('<img src=x'), `${path} shows what was written`);
    assert.equal(await ann.$('img[src=x]').count(), 0, path);
    assert.equal(await ann.page.evaluate(() => globalThis.hit), undefined, path);
  }
  // What comes live, and what comes into a dialog.
  await ann.go('/releases/hostile-1');
  await server.pg('release', 'unpause', 'hostile-1', '--reason', `again ${CANARY}`, '--as', 'bob');
  await ann.sees('#log', `again ${CANARY}`);
  const dialog = await ann.choose('Pause');
  await dialog.getByLabel('Reason').fill(CANARY);
  await ann.confirm('Pause');
  await ann.sees('#standing', `“${CANARY}”`);
  assert.equal(await ann.page.evaluate(() => globalThis.hit), undefined);
  await ann.go('/flags/hostile/release');
  await ann.page.getByLabel('New answers').fill(CANARY);
  await ann.button('Show the plan').click();
  await ann.sees('[role=alert]', 'Cannot be read.');
  assert.equal(await ann.page.evaluate(() => globalThis.hit), undefined);
  await ann.go('/flags/hostile');
  await ann.$('#do-kill').click();
  await (await ann.dialogNow()).getByLabel('Reason').fill(CANARY);
  await ann.confirm('Kill');
  await ann.sees('#head', `“${CANARY}”`);
  assert.equal(await ann.$('img[src=x]').count(), 0);
});

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

test('a change that another site sends is refused', async ({ server }) => {
  const id = await underWay(server, 'plain');
  const own = `http://127.0.0.1:${server.port}`;
  const post = (headers) => server.ask(`/releases/${id}/pause`, { method: 'POST', headers: { ...FORM, ...headers }, body: 'reason=x' });
  for (const headers of [
    {}, { origin: 'https://evil.example' }, { origin: 'null' }, { origin: `http://localhost:${server.port}` },
    { 'sec-fetch-site': 'cross-site', origin: own }, { 'sec-fetch-site': 'same-site' }, { 'sec-fetch-site': 'none' },
  ]) {
    const answer = await post(headers);
    assert.equal(answer.status, 403, JSON.stringify(headers));
    assert.match(answer.text, /Changes are taken from this server&#39;s own pages only|Changes are taken from this server's own pages only/);
  }
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
  assert.equal((await post({ origin: own })).status, 303);
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_PAUSED');
});

test('a form on another site, sent by a real browser, is refused', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const ann = await person({ name: 'ann' });
  ann.expectsRefusal(403);
  // The same server by another name is another site.
  ann.expects(/^left the server: GET http:\/\/localhost:\d+\//);
  await ann.page.goto(`http://localhost:${server.port}/releases`);
  await ann.page.evaluate(() => document.body.replaceChildren());
  await ann.context.route('**/elsewhere', (route) => route.fulfill({
    contentType: 'text/html',
    body: `<form method="post" action="${server.url}/releases/${id}/pause"><button>Win a prize</button></form>`,
  }));
  await ann.page.goto(`http://localhost:${server.port}/elsewhere`);
  await ann.button('Win a prize').click();
  await ann.sees('main', 'Changes are taken from this server\'s own pages only.');
  assert.equal((await server.release(id)).state, 'RELEASE_STATE_BAKING');
});

test('a name that is not the server\'s is refused, for reading too', async ({ server }) => {
  for (const host of ['rebound.example', `rebound.example:${server.port}`, '10.0.0.1']) {
    const answer = await server.ask('/releases', { headers: { host } });
    assert.equal(answer.status, 403, host);
  }
  assert.equal((await server.ask('/releases', { headers: { host: `localhost:${server.port}` } })).status, 200);
});

test('looking at anything changes nothing', async ({ server }) => {
  const id = await underWay(server, 'plain');
  const actions = ['approve', 'reject', 'pause', 'unpause', 'skip', 'override-window', 'adjust-bake', 'full-rollout', 'abort'];
  const paths = [...actions.map((action) => `/releases/${id}/${action}?reason=x`), `/flags/${id}/kill?reason=x`, `/flags/${id}/revive`,
    `/flags/${id}/release?step=trigger&answers=x`, `/releases/${id}`, '/releases'];
  const before = await server.release(id);
  for (const path of paths) assert.equal((await server.ask(path)).status, 200, path);
  assert.deepEqual(await server.release(id), before);
});

test('every answer carries the headers that keep a page to itself', async ({ server }) => {
  const id = await underWay(server, 'plain');
  const { text } = await server.ask('/releases');
  const [script] = /\/assets\/live\.js\?\w+/.exec(text);
  const [style] = /\/assets\/style\.css\?\w+/.exec(text);
  const paths = { '/releases': 200, [`/releases/${id}`]: 200, [`/releases/${id}/abort`]: 200, '/flags': 200, [`/flags/${id}`]: 200,
    [`/flags/${id}/release`]: 200, '/pipelines': 200, '/pipelines/plain': 200, '/caller': 200, '/': 307, '/nothing': 404,
    '/releases/nothing': 404, '/flags/nothing': 404, '/assets/nothing': 404, [script]: 200, [style]: 200 };
  for (const [path, status] of Object.entries(paths)) {
    const { headers, status: found } = await server.ask(path);
    assert.equal(found, status, path);
    const policy = headers['content-security-policy'];
    assert.match(policy, /default-src 'self'/, path);
    for (const part of ["base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'", "object-src 'none'"]) {
      assert.ok(policy.includes(part), `${path}: ${part}`);
    }
    assert.doesNotMatch(policy, /unsafe/, path);
    assert.equal(headers['x-content-type-options'], 'nosniff', path);
    assert.equal(headers['x-frame-options'], 'DENY', path);
    assert.equal(headers['referrer-policy'], 'same-origin', path);
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin', path);
    assert.equal(headers['cross-origin-resource-policy'], 'same-origin', path);
    const kept = path === script || path === style;
    assert.match(headers['cache-control'], kept ? /immutable/ : /no-store/, path);
  }
});

test('the policy stops a script that somehow got into a page', async ({ person }) => {
  const ann = await person();
  ann.expects(/^stopped by the policy: script-src-elem inline/, /^console: .*Content Security Policy/);
  await ann.go('/releases');
  await ann.page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.hit = 1';
    document.body.append(script);
  });
  assert.equal(await ann.page.evaluate(() => globalThis.hit), undefined);
  assert.ok(ann.wrong.some((text) => text.startsWith('stopped by the policy')), 'and the tests would have noticed');
});

test('a page that does not exist says so and leads back', async ({ person }) => {
  const ann = await person();
  ann.expectsRefusal(404);
  for (const path of ['/nothing', '/releases/nothing', '/flags/nothing', '/pipelines/nothing', '/releases/nothing/abort', '/flags/nothing/kill']) {
    assert.equal((await ann.go(path)).status(), 404, path);
    await ann.page.getByRole('link', { name: 'To the releases' }).waitFor();
  }
});
