// Writes the pictures of the README into docs/img: `tests/browser/run screenshots`.
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Person, Server, launch } from './stage.mjs';
import { all } from './world.mjs';

const PICTURES = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'docs', 'img');

const PIPELINE = `
kind: Pipeline
name: pipelines/standard
description: Staging, then Europe, then America, then everyone.
triggerNotice: Goes out to production. Tell whoever is on call.
exemptEnvironments: [dev]
phases:
  - id: staging
    rules: [{id: all, environments: [staging]}]
    bakeDuration: 1800s
  - id: prod-eu
    rules: [{id: tenth, environments: [prod-eu], rolloutBasisPoints: 1000}]
    bakeDuration: 1800s
    guards:
      - {id: error-rate, onFail: GUARD_ACTION_PAUSE}
      - {id: slo, requirePass: true, onFail: GUARD_ACTION_FAIL}
  - id: prod-us
    approval: {minApprovals: 2, quotas: [{group: sre, minApprovals: 1}], expiry: 86400s}
    rules: [{id: us, environments: [prod-us]}, {id: eu-half, environments: [prod-eu], rolloutBasisPoints: 5000}]
    bakeDuration: 3600s
  - id: everyone
    rules: [{id: all}]
    windows: {timeZone: Europe/Rome, weekly: [{days: [MON, TUE, WED, THU], start: "09:00", end: "16:00"}]}
    bakeDuration: 3600s
`;

const GATES = {
  'checkout-v2': 'The new checkout page',
  'new-search': 'Search by meaning',
  'beta-banner': 'A banner for those in the beta',
  'payment-retries': 'Try a payment again before giving up',
  'dark-sidebar': 'The sidebar in the dark',
};

const gate = ([flag, description]) => `
kind: Flag
name: flags/${flag}
description: ${description}
pipeline: pipelines/standard
featureGate:
  defaultValue: false
  rules: [{targeting: {id: staff, conditions: [{attribute: email, operator: CONDITION_OPERATOR_ENDS_WITH, values: ["@example.com"]}]}, value: true}]
`;

const RANKING = `
kind: Flag
name: flags/search.ranking
description: How search results are ranked
pipeline: pipelines/standard
dynamicConfig: {defaultValue: {model: classic, boost: 1}}
`;

/** A Tuesday noon of a team: what waits for somebody, what bakes, what went wrong. */
async function scene(server) {
  await server.apply(all(PIPELINE, RANKING, ...Object.entries(GATES).map(gate)));
  const trigger = (flag, by, description) => server.trigger(`
kind: Release
flag: flags/${flag}
description: ${description}
labels: {team: shop}
featureGate: {defaultValue: true}
`, '--id', `${flag}-1`, '--as', by);
  const release = (...args) => server.pg('release', ...args);
  const pass = (id) => release('signal', id, 'prod-eu', 'slo', 'pass', '--as', 'prometheus', '--reason', 'p99 140 ms');
  await trigger('dark-sidebar', 'eva', 'The sidebar in the dark (SHOP-12)');
  await release('full-rollout', 'dark-sidebar-1', '--bypass-approval', '--override-windows', '--reason', 'internal pages only', '--as', 'eva');
  await trigger('payment-retries', 'ann', 'Try a payment three times (SHOP-31)');
  await release('abort', 'payment-retries-1', '--reason', 'wrong flag', '--as', 'ann');
  await server.advance('4m');
  await trigger('new-search', 'ann', 'Search by meaning for everyone (SHOP-38)');
  await server.advance('30m');
  await pass('new-search-1');
  await server.advance('30m');
  await release('approve', 'new-search-1', 'prod-us', '--as', 'cleo', '--groups', 'sre', '--reason', 'looks good in Europe');
  await trigger('beta-banner', 'dan', 'Show the banner (SHOP-40)');
  await server.advance('30m');
  await release('signal', 'beta-banner-1', 'prod-eu', 'error-rate', 'fail', '--as', 'prometheus', '--reason', '5xx at 2.1 %');
  await trigger('checkout-v2', 'ann', 'The new checkout for everyone (SHOP-42)');
  await server.advance('30m');
  await pass('checkout-v2-1');
  await server.trigger(`
kind: Release
flag: flags/search.ranking
description: Rank by the new model
dynamicConfig: {defaultValue: {model: blended, boost: 1.5}}
`, '--id', 'ranking-1', '--as', 'eva');
  // 12 min 30 s of the bake in Europe are left.
  await server.advance('17m30s');
}

const server = await Server.start();
const browser = await launch();
try {
  await mkdir(PICTURES, { recursive: true });
  await scene(server);
  const desk = { name: 'bob', viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1.5, timezoneId: 'Europe/Rome' };
  const picture = async (file, path, { prepare = async () => {}, height, ...options } = {}) => {
    const bob = await Person.arrive(browser, server.url, { ...desk, ...options });
    await bob.go(path);
    await bob.page.evaluate(() => document.fonts.ready);
    await prepare(bob);
    const { width, height: whole } = bob.page.viewportSize();
    const clip = { x: 0, y: 0, width, height: height ?? whole };
    await bob.page.screenshot({ path: join(PICTURES, `${file}.png`), clip, animations: 'disabled' });
    await bob.leave();
  };
  await picture('releases', '/releases', { height: 640 });
  await picture('baking', '/releases/checkout-v2-1');
  await picture('approval', '/releases/new-search-1', { prepare: (bob) => bob.$('.menu summary').click() });
  await picture('abort', '/releases/checkout-v2-1', {
    height: 700,
    prepare: async (bob) => { await (await bob.choose('Abort')).getByLabel('Reason').fill('Carts stay empty in Italy'); },
  });
  await picture('dark', '/releases/checkout-v2-1', { colorScheme: 'dark' });
  await picture('phone', '/releases/checkout-v2-1', {
    viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true,
  });
} finally {
  await browser.close();
  await server.stop();
}
