// On a phone, in the dark, far from UTC.
import assert from 'node:assert/strict';
import { Server, stage } from './stage.mjs';
import { GATED, PLAIN, STANDARD, all, awaitingApproval, gate, turnOn, underWay } from './world.mjs';

/** The longest names and texts that are allowed, without a place to break them. */
const LONG = {
  flag: 'f'.repeat(128), release: 'r'.repeat(63), pipeline: 'p'.repeat(63), phase: 'h'.repeat(63), text: 'w'.repeat(1024),
};

const WORLD = all(STANDARD, PLAIN, GATED, `
kind: Pipeline
name: pipelines/${LONG.pipeline}
description: ${LONG.text}
triggerNotice: ${LONG.text}
exemptEnvironments: [${'e'.repeat(63)}]
phases:
  - id: ${LONG.phase}
    rules: [{id: ${'i'.repeat(63)}, environments: [${'n'.repeat(63)}], conditions: [{attribute: ${'a'.repeat(64)}, operator: CONDITION_OPERATOR_IN, values: [${'v'.repeat(200)}]}]}]
    bakeDuration: 60s
    guards: [{id: ${'g'.repeat(63)}, requirePass: true, onFail: GUARD_ACTION_PAUSE}]
  - id: b${'h'.repeat(62)}
    approval: {minApprovals: 2, quotas: [{group: ${'q'.repeat(63)}, minApprovals: 1}]}
    rules: [{id: all}]
`, `
kind: Flag
name: flags/${LONG.flag}
description: ${LONG.text}
pipeline: pipelines/${LONG.pipeline}
dynamicConfig: {defaultValue: {${'k'.repeat(60)}: ${'v'.repeat(500)}}}
`);

async function setUp(server) {
  await server.apply(WORLD);
  await server.trigger(`
kind: Release
flag: flags/${LONG.flag}
description: ${LONG.text}
labels: {${'l'.repeat(60)}: ${'m'.repeat(60)}}
dynamicConfig: {defaultValue: {${'k'.repeat(60)}: ${'w'.repeat(500)}}}
`, '--id', LONG.release, '--as', 'c'.repeat(200));
  await server.pg('release', 'pause', LONG.release, '--reason', LONG.text, '--as', 'd'.repeat(200));
}

const { test } = stage({ setUp });

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

/** What reaches out of the width of the screen. */
async function tooWide(person) {
  return person.page.evaluate(() => {
    const { scrollWidth } = document.documentElement;
    if (scrollWidth <= innerWidth && innerWidth <= 360) return [];
    const wide = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > 361);
    return [`${scrollWidth} in ${innerWidth}`, ...wide.map((element) => element.outerHTML.slice(0, 90))].slice(0, 6);
  });
}

test('no page is wider than a phone, however long its names and texts are', async ({ server, person }) => {
  const id = await awaitingApproval(server);
  const ann = await person({ ...PHONE, name: 'u'.repeat(200), groups: 'sre' });
  const paths = ['/releases', '/releases?state=all', `/releases?text=${'x'.repeat(200)}`, `/releases/${id}`, `/releases/${id}/abort`,
    `/releases/${id}/full-rollout`, `/releases/${LONG.release}`, `/releases/${LONG.release}/abort`, `/releases/${LONG.release}/adjust-bake`, '/flags', `/flags/${LONG.flag}`,
    `/flags/${LONG.flag}?environment=${'n'.repeat(63)}&context=tier%3D${'t'.repeat(200)}`,
    `/flags/${LONG.flag}/kill`, `/flags/${LONG.flag}/release`, '/pipelines', `/pipelines/${LONG.pipeline}`, '/caller'];
  for (const path of paths) {
    await ann.go(path);
    assert.deepEqual(await tooWide(ann), [], path);
  }
  ann.expectsRefusal(404);
  await ann.go(`/releases/${'z'.repeat(60)}`);
  assert.deepEqual(await tooWide(ann), [], 'not found');
});

test('the plan of a trigger fits on a phone', async ({ server, person }) => {
  const flag = 'g'.repeat(128);
  await server.apply(gate(flag, LONG.pipeline, LONG.text));
  const ann = await person({ ...PHONE, name: 'ann' });
  await ann.go(`/flags/${flag}/release`);
  await ann.page.getByLabel('New answers').fill(`featureGate: {defaultValue: true, rules: [{targeting: {id: x, environments: [${'n'.repeat(63)}]}, value: false}]}`);
  await ann.button('Show the plan').tap();
  await ann.sees('h1', '?');
  assert.deepEqual(await tooWide(ann), []);
});

test('the menu and a dialog fit on a phone and are used by touch', async ({ server, person }) => {
  const ann = await person({ ...PHONE, name: 'ann' });
  for (const id of [await underWay(server, 'standard'), LONG.release]) {
    await ann.go(`/releases/${id}`);
    await ann.$('.menu summary').tap();
    const inside = (selector) => ann.$(selector).evaluate((element) => {
      const { left, right, top, bottom } = element.getBoundingClientRect();
      return { left: left >= 0, right: right <= innerWidth, top: top >= 0, bottom: bottom <= innerHeight };
    });
    const { left, right } = await inside('.menu ul');
    assert.deepEqual({ left, right }, { left: true, right: true }, 'the menu');
    await ann.$('#do-abort').scrollIntoViewIfNeeded();
    await ann.$('#do-abort').tap();
    const dialog = await ann.dialogNow();
    assert.deepEqual(await inside('dialog'), { left: true, right: true, top: true, bottom: true }, 'the dialog');
    assert.ok(await dialog.evaluate((element) => element.scrollWidth <= element.clientWidth), 'nothing in it is wider than it');
    await dialog.getByLabel('Reason').fill('by thumb');
    const button = ann.button('Abort', dialog);
    await button.scrollIntoViewIfNeeded();
    await button.tap();
    await ann.sees('#standing', 'Aborted');
    assert.deepEqual(await tooWide(ann), []);
  }
});

test('what one taps is large enough for a thumb', async ({ server, person }) => {
  const ann = await person({ ...PHONE, name: 'ann' });
  await ann.go(`/releases/${await underWay(server, 'plain')}`);
  await ann.$('.menu summary').tap();
  const small = await ann.page.evaluate(() => [...document.querySelectorAll('button, .button, summary, .menu li a, .top a, .tabs a')]
    .map((element) => [element.textContent.trim(), element.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && (box.height < 24 || box.width < 24))
    .map(([text, box]) => `${text}: ${box.width}x${box.height}`));
  assert.deepEqual(small, []);
});

test('in dark mode the ground is dark and the text is light', async ({ server, person }) => {
  const id = await underWay(server, 'plain');
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/\d+/g).map(Number);
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
  };
  const check = async (colorScheme) => {
    const ann = await person({ colorScheme });
    await ann.go(`/releases/${id}`);
    const [ground, text] = await ann.page.evaluate(() => {
      const { backgroundColor, color } = getComputedStyle(document.body);
      return [backgroundColor, color];
    });
    return luminance(ground) < luminance(text);
  };
  assert.equal(await check('dark'), true);
  assert.equal(await check('light'), false);
});

test('times are in the viewer\'s zone, and UTC is what hovering shows', async ({ t, person }) => {
  const server = await Server.start();
  t.after(() => server.stop());
  await server.apply(all(STANDARD, gate('zoned', 'standard')));
  await server.trigger(turnOn('zoned'), '--id', 'zoned', '--as', 'ann');
  const tokyo = await person({ url: server.url, timezoneId: 'Asia/Tokyo' });
  await tokyo.go('/releases/zoned');
  await tokyo.sees('#standing', 'ends 21:30.');
  assert.equal(await tokyo.$('#standing time').first().getAttribute('title'), '2030-06-14 12:30:00 UTC');
  await tokyo.sees('#log .when', '14 Jun 2030, 21:00:00');
  await tokyo.sees('#rehearsal-clock', '14 Jun 2030, 21:00:00');
  // It is another day there when it opens at 07:00 UTC on Monday; and what comes live is local too.
  await server.pg('release', 'pause', 'zoned', '--as', 'bob');
  await tokyo.sees('#log tr', 'Paused');
  assert.doesNotMatch(await tokyo.$('main').innerText(), /UTC/);
  const local = await person({ url: server.url, timezoneId: 'America/Los_Angeles' });
  await local.go('/releases/zoned');
  await local.sees('#log .when', '14 Jun 2030, 05:00:00');
  const dialog = await local.choose('Unpause');
  assert.match(await dialog.innerText(), /until 05:30/);
});
