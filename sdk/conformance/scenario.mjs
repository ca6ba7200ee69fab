// One scenario, done by one client against a server of its own. The format is in README.md.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Served, run } from '../../tests/program.mjs';
import { certificates } from './certificates.mjs';
import { at, filled, mismatch } from './match.mjs';
import { Wire } from './wire.mjs';

/** No step takes longer than this: a drain spreads its ends over 15 s, and a client waits up to 20 s between tries. */
const PATIENCE = 60_000;

export class Scenario {
  #spec;
  #runner;
  #folder;
  #served;
  #args;
  #wire;
  #kept = {};
  #begun = new Map();
  #watches = new Map();

  constructor(spec, runner) {
    this.#spec = spec;
    this.#runner = runner;
  }

  /** Does every step, and throws at the first that is not as it has to be. */
  async play() {
    this.#folder = await mkdtemp(join(tmpdir(), 'phasegate-conformance-'));
    try {
      await within(this.#start(), 'the start');
      for (const [n, step] of this.#spec.steps.entries()) {
        try {
          await within(this.#step(step), `step ${n + 1}`);
        } catch (error) {
          throw new Error(`step ${n + 1}, ${JSON.stringify(step)}: ${error.message}`, { cause: error });
        }
      }
    } finally {
      await within(Promise.all([this.#wire?.end(), this.#served?.end('SIGKILL')]), 'the end');
      await rm(this.#folder, { recursive: true, force: true });
    }
  }

  async #start() {
    const { server = [], clients } = this.#spec;
    const store = this.#spec.store === 'disk' ? ['--data', join(this.#folder, 'data')] : ['--memory'];
    await this.#write(this.#spec.files ?? {});
    if (this.#spec.certificates) await certificates(this.#folder);
    const placed = (text) => (typeof text === 'string' ? text.replaceAll('$folder', this.#folder) : text);
    // A page of this origin there is none: it makes the server speak gRPC-Web.
    this.#args = [...store, '--grpc-web-origin', 'https://conformance.example', ...server.map(placed)];
    this.#served = await Served.start([...this.#args, '--listen', '127.0.0.1:0']);
    this.#wire = await Wire.to(this.#served.port);
    for (const [name, { direct, ...members }] of Object.entries(clients)) {
      const port = direct ? this.#served.port : this.#wire.port;
      const address = `${this.#spec.certificates ? 'https' : 'http'}://127.0.0.1:${port}`;
      const placedMembers = Object.fromEntries(Object.entries(members).map(([key, value]) => [key, placed(value)]));
      good(await this.#runner.tell('open', { client: name, address, ...placedMembers }));
    }
  }

  /** Files of the scenario's own folder, for nobody else's eyes, as the server wants them. */
  async #write(files) {
    for (const [name, lines] of Object.entries(files)) {
      await writeFile(join(this.#folder, name), `${lines.join('\n')}\n`, { mode: 0o600 });
    }
  }

  async #step(step) {
    const verbs = Object.keys(VERBS).filter((verb) => verb in step);
    if (verbs.length !== 1) throw new Error(`a step does one thing, not ${JSON.stringify(verbs)}`);
    await VERBS[verbs[0]].call(this, step);
  }

  /** Compares an answer with what the step says, and keeps what the step wants kept. */
  #compare(step, { ok, error }) {
    if (step.refused) {
      if (!error) throw new Error(`it was not refused, but answered ${JSON.stringify(ok)}`);
      const wrong = mismatch(error, step.refused, this.#kept, 'error');
      if (wrong) throw new Error(`${wrong} (${error.code} ${error.reason}: ${error.message})`);
      return;
    }
    if (error) throw new Error(`it was refused: ${error.code} ${error.reason}: ${error.message}`);
    this.#expect(step, ok);
  }

  #expect(step, answer) {
    const wrong = mismatch(answer, step.ok ?? step.is ?? {}, this.#kept);
    if (wrong) throw new Error(`${wrong}; the whole: ${JSON.stringify(answer)}`);
    for (const [name, path] of Object.entries(step.keep ?? {})) {
      const value = at(answer, path);
      if (value === undefined) throw new Error(`there is no ${path} to keep in ${JSON.stringify(answer)}`);
      this.#kept[name] = value;
    }
  }

  #ask(step) {
    const [client, method] = step.call.split('.');
    return this.#runner.tell('call', { client, method, request: filled(step.with ?? {}, this.#kept) });
  }

  static call(step) {
    const answer = this.#ask(step);
    if (step.begin) {
      this.#begun.set(step.begin, answer);
      return undefined;
    }
    return answer.then((given) => this.#compare(step, given));
  }

  static async finish(step) { this.#compare(step, await this.#begun.get(step.finish)); }

  static async watch(step) {
    const { watch, of: client, release, releases, after } = step;
    const what = release ? { kind: 'release', name: release }
      : releases ? { kind: 'releases', filter: releases } : { kind: 'audit' };
    const from = after && { from: filled(after, this.#kept) };
    good(await this.#runner.tell('watch', { client, watch, ...what, ...from }));
    this.#watches.set(watch, { seen: [], begun: 0n });
  }

  /** The next update that is not passed over: a bookmark, or while it waits for a return a further loss. */
  async #next(name, wanted) {
    const passed = new Set(['bookmark']);
    if (wanted === 'resumed' || wanted === 'restarted') passed.add('interrupted');
    passed.delete(wanted);
    for (;;) {
      const { ok, error } = await this.#runner.tell('next', { watch: name });
      if (ok) this.#note(name, ok);
      if (!ok || !passed.has(ok.type)) return { ok, error };
    }
  }

  /** What every watch has to keep, whatever the scenario: revisions that grow, and each event once. */
  #note(name, update) {
    const watch = this.#watches.get(name);
    if (update.position) {
      const revision = BigInt(update.position.revision);
      const grows = update.type === 'snapshot' || update.type === 'bookmark' || revision > watch.last;
      if (watch.last !== undefined && !grows) throw new Error(`revision ${revision} after ${watch.last}`);
      watch.last = revision;
      watch.begun ??= revision;
      if (update.type === 'snapshot') watch.begun = revision;
    }
    for (const event of update.events ?? []) watch.seen.push(event.name);
    for (const change of update.changes ?? []) watch.seen.push(...(change.events ?? []).map((event) => event.name));
  }

  static async next(step) { this.#compare(step, await this.#next(step.next, step.is?.type)); }

  static async end(step) {
    const { ok, error } = await this.#next(step.end);
    if (error || !ok.end) throw new Error(`the watch goes on: ${JSON.stringify(error ?? ok)}`);
  }

  static async fails(step) { this.#compare(step, await this.#next(step.fails)); }

  static async stop(step) { good(await this.#runner.tell('stop', { watch: step.stop })); }

  static async close(step) { good(await this.#runner.tell('close', { client: step.close })); }

  /** Everything that the log has above the watch's snapshot was seen, each once, in order. */
  static async complete(step) {
    const { begun, seen } = this.#watches.get(step.complete);
    const request = { parent: step.of, pageSize: 1000, afterRevision: String(begun) };
    const { ok } = await this.#runner.tell('call', { client: step.by, method: 'ListReleaseEvents', request });
    const wrong = mismatch(seen, (ok.events ?? []).map((event) => event.name), this.#kept, 'events seen');
    if (wrong) throw new Error(wrong);
  }

  static async write(step) { await this.#write(step.write); }

  static async wire(step) { this.#wire[step.wire](); }

  static async advance(step) {
    await run(['clock', 'advance', step.advance], { url: this.#served.url, timeout: PATIENCE });
  }

  /** What happens to the server: it is told to end, killed, started again, or started on a store of its own. */
  static async server(step) {
    const again = (args) => Served.start([...args, '--listen', `127.0.0.1:${this.#served.port}`]);
    switch (step.server) {
      case 'terminate': this.#served.signal('SIGTERM'); break;
      case 'reload': this.#served.signal('SIGHUP'); break;
      case 'gone': await this.#served.end(); break;
      case 'kill': await this.#served.end('SIGKILL'); break;
      case 'start': this.#served = await again(this.#args); break;
      case 'replace': {
        await this.#served.end('SIGKILL');
        const exported = join(this.#folder, 'export');
        const data = (args) => args.map((arg) => (arg === join(this.#folder, 'data') ? join(this.#folder, 'restored') : arg));
        await run(['store', 'export', '--data', join(this.#folder, 'data'), '--to', exported], { timeout: PATIENCE });
        await run(['store', 'import', '--data', join(this.#folder, 'restored'), '--from', exported], { timeout: PATIENCE });
        this.#args = data(this.#args);
        this.#served = await again(this.#args);
        break;
      }
      default: throw new Error(`the server does not know how to ${step.server}`);
    }
  }
}

const VERBS = Object.fromEntries(
  ['call', 'finish', 'watch', 'next', 'end', 'fails', 'stop', 'close', 'complete', 'write', 'wire', 'advance', 'server']
    .map((verb) => [verb, Scenario[verb]]),
);

function good({ error }) {
  if (error) throw new Error(`${error.code} ${error.reason}: ${error.message}`);
}

async function within(work, what) {
  const signal = AbortSignal.timeout(PATIENCE);
  const late = new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error(`${what} took longer than ${PATIENCE} ms`)));
  });
  await Promise.race([work, late]);
}
