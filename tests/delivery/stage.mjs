// What the tests stand on: a server of their own, and applications that are driven by lines of JSON.
//
// Nothing here waits for time to pass: whoever waits asks again as soon as it was answered, up to a deadline.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Served, run } from '../program.mjs';

export const TOOLS = process.env.DELIVERY_TOOLS;

/** Longer than any provider takes to come back, on a busy machine. */
export const PATIENCE = 30_000;

/** What a rehearsal's clock says at first: a Friday. */
const START = '2030-06-14T12:00:00Z';

/** The programs of a client: what to run, with the arguments that choose a kind of provider. */
const COMMANDS = {
  node: [process.execPath, join(TOOLS, 'node', 'node.mjs')],
  browser: [process.execPath, join(TOOLS, 'node', 'browser.mjs')],
  python: [join(TOOLS, 'python', 'bin', 'python'), join(import.meta.dirname, 'clients', 'python.py')],
  rust: [join(TOOLS, 'rust', 'debug', 'client')],
};

/** Asks again as soon as it was answered, until the answer is wanted; gives that answer. */
export async function until(what, ask, isWanted = Boolean, patience = PATIENCE) {
  const deadline = performance.now() + patience;
  let last;
  do {
    last = await ask();
    if (isWanted(last)) return last;
  } while (performance.now() < deadline);
  throw new Error(`never came true: ${what}; at last ${JSON.stringify(last)}`);
}

/** A directory of the test's own, away when it ends. */
export async function directory(t) {
  const path = await mkdtemp(join(tmpdir(), 'phasegate-delivery-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A server with a data directory and a clock that is moved by hand. */
export class Server {
  #served;

  constructor(data, options) {
    this.data = data;
    this.options = options;
    this.port = 0;
  }

  /** Starts it; the second time on the port of the first. */
  async start() {
    const args = [
      '--listen', `127.0.0.1:${this.port}`, '--data', this.data,
      '--clock', 'manual', '--clock-start', START, ...this.options,
    ];
    this.#served = await Served.start(args);
    this.url = this.#served.url;
    this.port = this.#served.port;
    // Recovery may go on after the port is bound; the program repeats a call that finds it so.
    await this.pg('list', 'flags');
  }

  /** Ends it as a supervisor would. */
  async stop() {
    await this.#served?.end();
  }

  /** Runs the program against it; gives its stdout, throws if it fails. */
  pg(...args) { return this.pgWith('', ...args); }

  /** The same with `input` as its stdin. */
  pgWith(input, ...args) {
    return run(args, { url: this.url, input, timeout: PATIENCE, env: { PHASEGATE_PRINCIPAL: 'ann' } });
  }

  /** Applies documents. */
  apply(documents) { return this.pgWith(documents, 'apply', '-f', '-'); }

  /** Triggers a release out of a document. */
  trigger(document, id) { return this.pgWith(document, 'release', 'trigger', '-f', '-', '--id', id); }

  /** Moves the clock; what comes due on the way is done when this returns. */
  advance(by) { return this.pg('clock', 'advance', by); }

  /** What a flag answers, as the command line says it. */
  async eval(flag, environment, context) {
    return JSON.parse((await this.pg('eval', flag, '--env', environment, '-a', JSON.stringify(context), '-o', 'json')));
  }
}

/** A running application. */
export class Client {
  #child;
  #waiting = new Map();
  #count = 0;
  #said = '';
  events = [];

  /** Starts one: `program` is a key of COMMANDS, `kind` the kind of provider. */
  static start({ program, kind, port, environments, env = {} }) {
    const client = new Client();
    const [command, ...args] = COMMANDS[program];
    client.#child = spawn(command, [...args, kind], {
      stdio: 'pipe', env: { ...process.env, ...env, PHASEGATE_PORT: `${port}`, ENVIRONMENTS: environments.join(' ') },
    });
    client.#child.stderr.on('data', (bytes) => { client.#said += bytes; });
    client.#child.stdin.on('error', () => {});
    createInterface({ input: client.#child.stdout }).on('line', (line) => client.#hear(line));
    client.#child.on('exit', (code) => {
      for (const { reject } of client.#waiting.values()) reject(new Error(`the client ended (${code}): ${client.#said}`));
      client.#waiting.clear();
    });
    return client;
  }

  #hear(line) {
    let message;
    try { message = JSON.parse(line); } catch { this.#said += `${line}\n`; return; }
    if (message.event) {
      this.events.push(message);
      return;
    }
    this.#waiting.get(message.id).resolve(message.answers);
    this.#waiting.delete(message.id);
  }

  /** What its provider answers to some questions, each `{ flag, type, default, context }`. */
  evaluate(environment, questions) {
    if (this.#child.exitCode !== null) return Promise.reject(new Error(`the client has ended: ${this.#said}`));
    this.#count += 1;
    const id = this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ id, environment, evaluate: questions })}\n`);
    });
  }

  /** Ends it. */
  async stop() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
