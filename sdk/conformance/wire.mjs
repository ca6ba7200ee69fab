// What lies between a client and the server: a wire that can be cut, joined, and made to hold answers back.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Wire {
  #server;
  #pairs = new Set();
  #state = 'joined';

  /** A wire to a port of loopback. */
  static async to(port) {
    const wire = new Wire();
    wire.#server = createServer((client) => wire.#carry(client, port));
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    wire.port = wire.#server.address().port;
    return wire;
  }

  #carry(client, port) {
    if (this.#state === 'cut') {
      client.destroy();
      return;
    }
    const server = connect(port, '127.0.0.1');
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const side of [client, server]) {
      side.setNoDelay(true);
      side.on('error', end).on('close', end);
    }
    client.pipe(server);
    server.on('data', (bytes) => { if (!client.write(bytes)) server.pause(); });
    client.on('drain', () => { if (this.#state === 'joined') server.resume(); });
    if (this.#state === 'held') server.pause();
  }

  /** Every connection breaks, and none comes about. */
  cut() {
    this.#state = 'cut';
    for (const { client, server } of [...this.#pairs]) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  /** What the server says stays on the way; what it is told arrives. */
  hold() {
    this.#state = 'held';
    for (const { server } of this.#pairs) server.pause();
  }

  /** Everything passes. */
  join() {
    this.#state = 'joined';
    for (const { server } of this.#pairs) server.resume();
  }

  async end() {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
