// The list of releases: what comes first, filters, tabs, counts, pages.
import assert from 'node:assert/strict';
import { Server, stage } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, gate, turnOn } from './world.mjs';

/** Five releases, each in another state, by different people. */
async function five(server) {
  const flags = ['cart', 'search', 'banner', 'retries', 'beacon'];
  const along = { cart: 'plain', search: 'gated', banner: 'plain', retries: 'plain', beacon: 'gated' };
  await server.apply(all(PLAIN, GATED, ...flags.map((flag) => gate(flag, along[flag]))));
  const trigger = (flag, by, description, labels) => server.trigger(turnOn(flag, description, labels), '--id', `${flag}-1`, '--as', by);
  await trigger('search', 'bob', 'Search by meaning (SHOP-7)');
  await server.advance('1m');
  await trigger('cart', 'ann', 'One page instead of three');
  await trigger('banner', 'ann', 'Summer', { team: 'web' });
  await server.pg('release', 'pause', 'banner-1', '--as', 'bob', '--reason', 'no picture yet');
  await trigger('retries', 'cleo', 'Try thrice');
  await server.pg('release', 'abort', 'retries-1', '--as', 'cleo', '--reason', 'wrong flag');
  await trigger('beacon', 'cleo', 'Fewer beacons');
}

const { test } = stage({ setUp: five });

const names = (person) => person.$('#list tbody .name').allInnerTexts();
const tab = (person, slug) => person.$(`#tab-${slug} .count`).innerText();

test('what awaits approval comes first, then what is paused, then the rest; what is over is under another tab', async ({ person }) => {
  const ann = await person();
  await ann.go('/');
  assert.equal(new URL(ann.page.url()).pathname, '/releases');
  assert.deepEqual(await names(ann), ['beacon', 'search', 'banner', 'cart']);
  await ann.$('#tab-all').click();
  await ann.sees('#tabs [aria-current=page]', 'All');
  assert.deepEqual(await names(ann), ['beacon', 'search', 'banner', 'cart', 'retries']);
});

test('every tab has its count and shows what it counts', async ({ person }) => {
  const ann = await person();
  await ann.go('/releases');
  const expected = {
    unfinished: 4, approval: 2, window: 0, baking: 1, paused: 1, pending: 0, succeeded: 0, aborted: 1, failed: 0, all: 5,
  };
  for (const [slug, count] of Object.entries(expected)) {
    assert.equal(await tab(ann, slug), String(count), slug);
    await ann.$(`#tab-${slug}`).click();
    await ann.$(`#tab-${slug}[aria-current=page]`).waitFor();
    assert.equal((await names(ann)).length, count, slug);
  }
});

test('filters by text, flag, pipeline and who narrow the list and its counts', async ({ person }) => {
  const ann = await person();
  const filter = async (fields) => {
    await ann.go('/releases?state=all');
    for (const [label, value] of Object.entries(fields)) await ann.page.getByLabel(label, { exact: true }).fill(value);
    await ann.button('Filter').click();
    await ann.page.waitForURL(/text=/);
    return names(ann);
  };
  assert.deepEqual(await filter({ Text: 'shop-7' }), ['search']);
  assert.equal(await tab(ann, 'approval'), '1');
  assert.deepEqual(await filter({ Text: 'web' }), ['banner'], 'labels are text');
  assert.deepEqual(await filter({ Flag: 'ba' }), ['banner']);
  assert.deepEqual(await filter({ Pipeline: 'gated' }), ['beacon', 'search']);
  assert.deepEqual(await filter({ 'Started by': 'ann' }), ['banner', 'cart']);
  assert.deepEqual(await filter({ 'Started by': 'cleo', Pipeline: 'plain' }), ['retries']);
  assert.deepEqual(await filter({ Text: 'no such thing' }), []);
  await ann.sees('#list', 'No release matches.');
  await ann.$('#filters').getByRole('link', { name: 'Clear' }).click();
  await ann.sees('#tabs [aria-current=page]', 'All');
  assert.equal((await names(ann)).length, 5);
});

test('a filter is in the address, so that it can be shared and survives going back', async ({ person }) => {
  const ann = await person();
  await ann.go('/releases?state=paused&who=ann');
  assert.deepEqual(await names(ann), ['banner']);
  await ann.$('#list .name').click();
  await ann.sees('#standing', 'paused by bob');
  await ann.page.goBack();
  await ann.sees('#tabs [aria-current=page]', 'Paused');
  assert.equal(await ann.page.getByLabel('Started by').inputValue(), 'ann');
});

test('an address that makes no sense shows the plain list', async ({ person }) => {
  const ann = await person();
  await ann.go('/releases?page=x&state=nonsense&%ff=1');
  assert.equal((await names(ann)).length, 4);
  await ann.go('/releases?page=99999999999');
  assert.equal((await names(ann)).length, 4);
});

test('an empty server says how to begin', async ({ t, person }) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const ann = await person({ url: server.url });
  for (const [path, words] of [['/releases', 'No release yet.'], ['/flags', 'No flag yet.'], ['/pipelines', 'No pipeline yet.']]) {
    await ann.go(path);
    await ann.sees('main', words);
  }
});

test('more than fifty are shown on several pages, and what awaits approval stays on the first', async ({ t, person }) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const flags = Array.from({ length: 53 }, (_, index) => `flag-${String(index).padStart(2, '0')}`);
  await server.apply(all(PLAIN, GATED, ...flags.map((flag, index) => gate(flag, index === 0 ? 'gated' : 'plain'))));
  for (const flag of flags) await server.post(`/flags/${flag}/release`, { step: 'trigger', answers: 'featureGate: {defaultValue: true}' });
  const ann = await person({ url: server.url });
  await ann.go('/releases');
  assert.equal((await names(ann)).length, 50);
  assert.equal((await names(ann))[0], 'flag-00', 'the oldest, which awaits approval');
  assert.equal((await names(ann))[1], 'flag-52', 'then the newest');
  await ann.sees('#list .pages', '1–50 of 53');
  await ann.$('#list').getByRole('link', { name: 'Older' }).click();
  await ann.sees('#list .pages', '51–53 of 53');
  assert.equal((await names(ann)).at(-1), 'flag-01');
  await ann.$('#list').getByRole('link', { name: 'Newer' }).click();
  await ann.sees('#list .pages', '1–50 of 53');
});
