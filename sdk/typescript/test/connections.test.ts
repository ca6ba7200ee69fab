// Connections: how many there are, and that one which does not come about is given up.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { fromTransport } from '../src/error.js';
import { connections } from '../src/node/connections.js';
import { Code } from '../src/reason.js';
import { FlagService } from '../src/v1.js';

test('a connection carries a hundred watches, and a freed place is taken again', () => {
  const link = connections(new URL('http://127.0.0.1:1'), undefined);
  const seats = Array.from({ length: 100 }, () => link.seat());
  const used = () => new Set(seats.map(({ transport }) => transport)).size;
  assert.equal(used(), 1);
  assert.notEqual(seats[0]?.transport, link.calls);
  seats.push(link.seat());
  assert.equal(used(), 2);
  const [first] = seats.splice(0, 1);
  first?.leave();
  seats.push(link.seat());
  assert.equal(used(), 2);
  assert.equal(seats.at(-1)?.transport, first?.transport);
  link.close();
});

test('a connection that does not come about in time is given up', async () => {
  // It takes connections and says nothing, so that TLS never begins.
  const sockets: Socket[] = [];
  const mute = createServer((socket) => sockets.push(socket.on('error', () => {}))).listen(0, '127.0.0.1');
  await once(mute, 'listening');
  const url = new URL(`https://127.0.0.1:${(mute.address() as AddressInfo).port}`);
  const link = connections(url, createSecureContext(), 50);
  const call = link.calls.unary(FlagService.method.getFlag, undefined, undefined, undefined, {});
  const error = await call.then(() => assert.fail('it does not fail'), fromTransport);
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /no connection to 127\.0\.0\.1:\d+ within 0\.05 s/);
  link.close();
  mute.close();
  for (const socket of sockets) socket.destroy();
});
