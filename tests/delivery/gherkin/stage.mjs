// What the cases stand on: servers, and applications of which each follows one of them.
//
// Nothing here waits for time to pass: what is waited for is an event, with a deadline.
import { execFile, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const PROGRAM = process.env.PHASEGATE_PROGRAM;

/** Longer than anything takes on a busy machine. */
export const PATIENCE = 20_000;

/** A server that has a world's flags. */
export class Server {
  #child;
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
    const args = ['serve', '--listen', `127.0.0.1:${this.port}`, '--data', this.#data, '--log', 'error'];
    this.#child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    this.#child.stderr.on('data', (bytes) => { said += bytes; });
    const ended = once(this.#child, 'exit').then(() => { throw new Error(`the server ended: ${said}`); });
    ended.catch(() => {});
    const listening = (async () => {
      for await (const line of createInterface({ input: this.#child.stdout })) {
        const found = /listening on http:\/\/[^:]+:(\d+)/.exec(line);
        if (found) return Number(found[1]);
      }
      throw new Error(`the server did not say where it listens: ${said}`);
    })();
    this.port = await Promise.race([listening, ended]);
  }

  /** Ends it without a warning. */
  async kill() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** Ends it for good. */
  async end() {
    await this.kill();
    await rm(this.#data, { recursive: true, force: true });
  }

  #apply(documents) {
    return new Promise((resolve, reject) => {
      const env = { ...process.env, PHASEGATE_ADDRESS: `http://127.0.0.1:${this.port}` };
      const child = execFile(PROGRAM, ['apply', '-f', '-'], { env, timeout: PATIENCE }, (error, stdout, stderr) => {
        if (error) reject(new Error(`the flags were not applied: ${stderr || error.message}`));
        else resolve(stdout);
      });
      child.stdin.on('error', () => {});
      child.stdin.end(documents);
    });
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
