// What the cases stand on: servers, and applications of which each follows one of them.
//
// Nothing here waits for time to pass: what is waited for is an event, with a deadline.
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Served, run } from '../../program.mjs';

/** Longer than anything takes on a busy machine. */
export const PATIENCE = 20_000;

/** A server that has a world's flags. */
export class Server {
  #served;
  #data;
  port = 0;

  static async with(world) {
    const server = new Server();
    server.#data = await mkdtemp(join(tmpdir(), 'phasegate-gherkin-'));
    await server.start();
    await server.#apply(world.documents);
    return server;
  }

  /** Starts it; the second time with the port and the flags of the first. */
  async start() {
    const args = ['--listen', `127.0.0.1:${this.port}`, '--data', this.#data, '--log', 'error'];
    this.#served = await Served.start(args);
    this.port = this.#served.port;
  }

  /** Ends it without a warning. */
  async kill() { await this.#served.end('SIGKILL'); }

  /** Ends it for good. */
  async end() {
    await this.kill();
    await rm(this.#data, { recursive: true, force: true });
  }

  #apply(documents) {
    return run(['apply', '-f', '-'], { url: this.#served.url, input: documents, timeout: PATIENCE });
  }
}

/** What a provider has told of itself, in order. */
export class Events {
  #told = [];
  #emitter = new EventEmitter();

  tell(kind) {
    this.#told.push(kind);
    this.#emitter.emit('told');
  }

  get count() { return this.#told.length; }

  /** Whether there was such an event after the first `from`. */
  was(kind, from) { return this.#told.includes(kind, from); }

  /** Waits for an event after the first `from`, until the signal; gives how many there were up to it, or none. */
  async wait(kind, from, signal) {
    for (;;) {
      const at = this.#told.indexOf(kind, from);
      if (at >= 0) return at + 1;
      if (signal.aborted) return undefined;
      await once(this.#emitter, 'told', { signal }).catch((error) => {
        if (error.name !== 'AbortError') throw error;
      });
    }
  }
}
