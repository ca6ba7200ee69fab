// The program as a child: a server, and a command that ends. For tests that need more than Rust.
//
// Nothing here waits for time to pass: what is waited for is an event.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const ROOT = join(import.meta.dirname, '..');

/** The program that is tried: that of a debug build unless another is named. */
const PROGRAM = process.env.PHASEGATE_PROGRAM
  ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug', 'phasegate');

/** A server that runs. */
export class Served {
  #child;

  /** What it has said on stderr. */
  said = '';

  /**
   * Starts one with arguments of `serve`, and with what is in `env` besides, and waits until it says where it
   * listens; with `--metrics-listen`, also where it tells of itself.
   */
  static async start(args, { env = {} } = {}) {
    const served = new Served();
    const options = { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } };
    const child = spawn(PROGRAM, ['serve', ...args], options);
    served.#child = child;
    child.stderr.on('data', (bytes) => { served.said += bytes; });
    const ended = once(child, 'exit').then(() => { throw new Error(`the server ended: ${served.said}`); });
    ended.catch(() => {});
    const listening = (async () => {
      for await (const line of createInterface({ input: child.stdout })) {
        const [, what, url] = /^(listening|metrics) on (https?:\/\/\S+)/.exec(line) ?? [];
        if (what === 'metrics') served.metrics = url;
        if (what === 'listening') served.url = url;
        if (served.url && (served.metrics || !args.includes('--metrics-listen'))) return;
      }
      throw new Error(`the server did not say where it listens: ${served.said}`);
    })();
    await Promise.race([listening, ended]);
    // Read on, or the child never closes it.
    child.stdout.resume();
    served.port = Number(new URL(served.url).port);
    return served;
  }

  /** Sends it a signal that does not end it. */
  signal(name) { this.#child.kill(name); }

  /** Ends it, without a signal as a supervisor would; one that has ended is left alone. */
  async end(signal = 'SIGTERM') {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    // Not `exit`: what it said last is to be there.
    const ended = once(this.#child, 'close');
    this.#child.kill(signal);
    await ended;
  }
}

/**
 * Runs a command against a server, with `input` as its stdin; gives its stdout, throws if it fails. Of the
 * environment it gets no setting of the program's but those in `env`.
 */
export function run(args, { url, input = '', timeout, env = {} }) {
  return new Promise((resolve, reject) => {
    const foreign = Object.entries(process.env).filter(([key]) => !key.startsWith('PHASEGATE_'));
    const whole = { ...Object.fromEntries(foreign), PHASEGATE_ADDRESS: url, ...env };
    const child = execFile(PROGRAM, args, { env: whole, timeout }, (error, stdout, stderr) => {
      if (error) reject(new Error(`phasegate ${args.join(' ')}: ${stderr || error.message}`));
      else resolve(stdout);
    });
    // Some commands end before they have read it.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
