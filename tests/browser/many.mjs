// How long the list takes when there are many releases: `tests/browser/run many [RELEASES]`.
//
// They are triggered through the form of the page, because that needs no process for each. A figure for
// docs/performance.md, not a test: it depends on the machine.
import { Person, Server, launch } from './stage.mjs';
import { all, gate, turnOn } from './world.mjs';

const FLAGS = 100;
const SAMPLES = 20;
const releases = Number(process.argv[2] ?? 10_000);

const AT_ONCE = `
kind: Pipeline
name: pipelines/at-once
phases:
  - id: everyone
    rules: [{id: all}]
`;
const SLOW = `
kind: Pipeline
name: pipelines/slow
phases:
  - id: everyone
    approval: {minApprovals: 1}
    rules: [{id: all}]
    bakeDuration: 3600s
`;

/** All releases of one flag, one after the other, each turning it round. */
async function fill(server, flag, count) {
  for (let index = 0; index < count; index += 1) {
    const answers = `featureGate: {defaultValue: ${index % 2 === 0}}`;
    await server.post(`/flags/${flag}/release`, { step: 'trigger', answers, description: `Change ${index} (SHOP-${index})` });
  }
}

function figures(samples) {
  const sorted = samples.toSorted((one, other) => one - other);
  const at = (share) => `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(0)} ms`;
  return `median ${at(0.5)}, 90 % within ${at(0.9)}`;
}

const server = await Server.start();
const browser = await launch();
try {
  const flags = Array.from({ length: FLAGS }, (_, index) => `flag-${index}`);
  await server.apply(all(AT_ONCE, SLOW, ...flags.map((flag) => gate(flag, 'at-once')), gate('watched', 'slow')));
  const began = performance.now();
  await Promise.all(flags.map((flag) => fill(server, flag, releases / FLAGS)));
  const seconds = (performance.now() - began) / 1000;
  console.log(`${releases} releases triggered through the form in ${seconds.toFixed(1)} s`);
  await server.trigger(turnOn('watched'), '--id', 'watched', '--as', 'ann');

  const ann = await Person.arrive(browser, server.url, { name: 'ann' });
  for (const path of ['/releases', '/releases?state=all', '/releases?state=all&page=150', '/releases?state=all&text=shop-77']) {
    const samples = { answer: [], page: [] };
    for (let sample = 0; sample < SAMPLES; sample += 1) {
      await ann.go(path);
      const timing = await ann.page.evaluate(() => {
        const { responseStart, requestStart, loadEventEnd } = performance.getEntriesByType('navigation')[0];
        return { answer: responseStart - requestStart, page: loadEventEnd };
      });
      samples.answer.push(timing.answer);
      samples.page.push(timing.page);
    }
    console.log(`${path}: first byte ${figures(samples.answer)}; loaded ${figures(samples.page)}`);
  }

  // From an action elsewhere to what a viewer sees, the start of a process included.
  const samples = [];
  await ann.go('/releases?state=all');
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const action = sample % 2 === 0 ? 'pause' : 'unpause';
    const start = performance.now();
    await server.pg('release', action, 'watched', '--as', 'bob');
    await ann.sees('#list tr .chip', action === 'pause' ? 'Paused' : 'Awaiting approval');
    samples.push(performance.now() - start);
  }
  console.log(`an action elsewhere is seen in the list: ${figures(samples)}`);
  await ann.leave();
} finally {
  await browser.close();
  await server.stop();
}
