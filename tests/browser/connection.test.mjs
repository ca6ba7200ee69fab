// What a viewer sees while the server is away, and after.
import assert from 'node:assert/strict';
import { Server, directory, stage } from './stage.mjs';
import { PLAIN, all, gate, turnOn } from './world.mjs';

const { test } = stage({ server: null });

/** What a browser says of a server that is away, or that still recovers. */
const AWAY = [/^console: Failed to load resource: net::ERR_/, /^console: .* status of 503 /, /^failed: .* net::ERR_(CONNECTION|INCOMPLETE|EMPTY|FAILED)/];

async function baking(t) {
  const data = await directory(t);
  const server = await Server.start({ data });
  t.after(() => server.stop());
  await server.apply(all(PLAIN, gate('checkout', 'plain')));
  await server.trigger(turnOn('checkout'), '--id', 'r-1', '--as', 'ann');
  return { data, server };
}

test('a lost connection shows at once, and after a restart the page shows what it missed', async ({ t, person }) => {
  const { data, server } = await baking(t);
  const ann = await person({ url: server.url });
  ann.expects(...AWAY);
  await ann.go('/releases/r-1');
  await ann.page.evaluate(() => { globalThis.mark = 'same page'; });
  await ann.sees('#standing', 'baking, 30 min left');
  assert.ok(await ann.$('#connection').isHidden());
  await server.stop('SIGKILL');
  await ann.sees('#connection', /Connection lost\. You see the state of \d\d:\d\d:\d\d; trying again\./);
  assert.equal(await ann.$('#connection').getAttribute('role'), 'status');
  assert.ok(await ann.$('body.stale').count(), 'what is shown looks old');
  const again = await Server.start({ data, port: server.port });
  t.after(() => again.stop());
  await again.pg('release', 'pause', 'r-1', '--as', 'bob', '--reason', 'while you were away');
  await ann.sees('#standing', 'paused by bob');
  await ann.$('#connection').waitFor({ state: 'hidden' });
  assert.equal(await ann.$('body.stale').count(), 0);
  assert.equal(await ann.page.evaluate(() => globalThis.mark), 'same page');
});

test('a server that is stopped as a supervisor does it is missed at once as well', async ({ t, person }) => {
  const { data, server } = await baking(t);
  const ann = await person({ url: server.url });
  ann.expects(...AWAY);
  await ann.go('/releases');
  await ann.sees('#list', 'checkout');
  const stopped = server.stop();
  await ann.sees('#connection', 'Connection lost');
  await stopped;
  assert.ok(await ann.$('#connection').isVisible());
  const again = await Server.start({ data, port: server.port });
  t.after(() => again.stop());
  await ann.$('#connection').waitFor({ state: 'hidden' });
});

test('an action that could not be sent says so, keeps what was typed, and can be sent again', async ({ t, person }) => {
  const { data, server } = await baking(t);
  const ann = await person({ url: server.url, name: 'ann' });
  ann.expects(...AWAY);
  await ann.go('/releases/r-1');
  const dialog = await ann.choose('Pause');
  await dialog.getByLabel('Reason').fill('a look');
  await server.stop('SIGKILL');
  await ann.button('Pause', dialog).click();
  await dialog.getByRole('alert').filter({ hasText: 'The server did not answer.' }).waitFor();
  assert.equal(await dialog.getByLabel('Reason').inputValue(), 'a look');
  const again = await Server.start({ data, port: server.port });
  t.after(() => again.stop());
  await ann.confirm('Pause');
  await ann.sees('#standing', 'paused by ann just now: “a look”');
});

test('a menu entry that cannot be asked for says that the connection is lost', async ({ t, person }) => {
  const { server } = await baking(t);
  const ann = await person({ url: server.url, name: 'ann' });
  ann.expects(...AWAY);
  await ann.go('/releases/r-1');
  await server.stop('SIGKILL');
  await ann.sees('#connection', 'Connection lost');
  await ann.$('.menu summary').click();
  await ann.$('#do-pause').click();
  await ann.sees('#connection', 'Connection lost');
  assert.equal(await ann.$('dialog[open]').count(), 0);
});
