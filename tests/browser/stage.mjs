// What every test stands on: a server of its own, the program `phasegate`, and people with browsers.
//
// Whatever a page does is watched: errors, what the content security policy had to stop, requests
// that leave the server, requests that fail, and changes that are not POST. A test during which any
// of these happened fails, unless it said beforehand that it would.
//
// Nothing here waits for time to pass: conditions are awaited, each with a deadline.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test as nodeTest } from 'node:test';
import { chromium } from 'playwright-core';
import { Served, run } from '../program.mjs';

/** Longer than anything takes on a busy machine, shorter than anybody wants to wait. */
export const PATIENCE = 20_000;

/** What a rehearsal's clock says at first: a Friday. */
export const START = '2030-06-14T12:00:00Z';

/** A running server. */
export class Server {
  #served;
  #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  /** Starts one: `{ clock: 'manual' | 'system', data, port }`, in memory without `data`. */
  static async start({ clock = 'manual', data, port = 0 } = {}) {
    const args = ['--listen', `127.0.0.1:${port}`, ...(data ? ['--data', data] : ['--memory'])];
    if (clock === 'manual') args.push('--clock', 'manual', '--clock-start', START);
    const server = new Server();
    server.#served = await Served.start(args);
    server.url = server.#served.url;
    server.port = server.#served.port;
    // Recovery may go on after the port is bound; the program repeats a call that finds it so.
    await server.pg('list', 'flags');
    return server;
  }

  /** Ends it; without a signal as a supervisor would. */
  async stop(signal = 'SIGTERM') {
    this.#agent.destroy();
    await this.#served.end(signal);
  }

  /** Runs the program against it, with `input` as its stdin; gives its stdout, throws if it fails. */
  pg(...args) { return this.pgWith('', ...args); }

  pgWith(input, ...args) { return run(args, { url: this.url, input, timeout: PATIENCE }); }

  /** Applies documents. */
  apply(documents) { return this.pgWith(documents, 'apply', '-f', '-'); }

  /** Triggers a release out of a document. */
  trigger(document, ...args) { return this.pgWith(document, 'release', 'trigger', '-f', '-', ...args); }

  /** A request as any program can make it, with any header; gives `{ status, headers, text }`. */
  async ask(path, { method = 'GET', headers = {}, body } = {}) {
    const asked = request({ agent: this.#agent, host: '127.0.0.1', port: this.port, path, method, headers });
    asked.end(body);
    const [answer] = await once(asked, 'response');
    answer.setEncoding('utf8');
    let text = '';
    for await (const part of answer) text += part;
    return { status: answer.statusCode, headers: answer.headers, text };
  }

  /** Sends a form of the page and expects it to be done: quicker than a process, if there are many. */
  async post(path, fields) {
    const headers = { origin: this.url, 'content-type': 'application/x-www-form-urlencoded' };
    const { status, text } = await this.ask(path, { method: 'POST', headers, body: new URLSearchParams(fields).toString() });
    if (status !== 303) throw new Error(`${path}: ${status} ${text}`);
  }

  /** One release as the API has it. */
  async release(id) { return JSON.parse(await this.pg('release', 'get', id, '-o', 'json')); }

  /** Moves the clock of a rehearsal. */
  advance(by) { return this.pg('clock', 'advance', by); }
}

/** Somebody with a browser. What goes wrong in it is kept in `wrong`. */
export class Person {
  #allowed = [];
  wrong = [];

  static async arrive(browser, url, { name, groups, ...options } = {}) {
    const person = new Person();
    person.url = url;
    const context = await browser.newContext({
      viewport: { width: 1280, height: 900 }, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce', ...options,
    });
    context.setDefaultTimeout(PATIENCE);
    person.context = context;
    const cookie = (key, value) => ({ name: key, value: encodeURIComponent(value), url });
    if (name) await context.addCookies([cookie('phasegate-principal', name)]);
    if (groups) await context.addCookies([cookie('phasegate-groups', groups)]);
    await context.exposeBinding('reportViolation', (_, text) => person.#note(`stopped by the policy: ${text}`));
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        globalThis.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ''}:${event.lineNumber}`);
      });
    });
    context.on('weberror', (event) => person.#note(`error: ${event.error().message}`));
    context.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) person.#note(`console: ${message.text()}`);
    });
    context.on('dialog', (dialog) => {
      person.#note(`a script opened a dialog: ${dialog.message()}`);
      dialog.dismiss().catch(() => {});
    });
    context.on('request', (request) => {
      const to = new URL(request.url());
      if (to.origin !== url) person.#note(`left the server: ${request.method()} ${request.url()}`);
      if (!['GET', 'POST'].includes(request.method())) person.#note(`method ${request.method()}: ${to.pathname}`);
    });
    context.on('requestfailed', (request) => {
      const why = request.failure()?.errorText;
      // What ends when its page is left: the stream, and the icon if it has not come yet.
      const isCut = /^\/(live\/|assets\/icon)/.test(new URL(request.url()).pathname);
      if (why === 'net::ERR_ABORTED' && isCut) return;
      person.#note(`failed: ${request.url()} ${why}`);
    });
    person.page = await context.newPage();
    return person;
  }

  #note(text) { this.wrong.push(text); }

  /** Says beforehand that something will go wrong that is meant to. */
  expects(...patterns) { this.#allowed.push(...patterns); }

  /** Says that a refusal will be answered: the browser reports its status as an error. */
  expectsRefusal(code = 409) { this.expects(new RegExp(`console: Failed to load resource: .* status of ${code} `)); }

  async go(path) {
    const response = await this.page.goto(this.url + path);
    return response;
  }

  $(selector) { return this.page.locator(selector); }

  button(name, within = this.page) { return within.getByRole('button', { name, exact: true }); }

  /** Opens the menu and takes an entry, as a person would; gives the dialog. */
  async choose(label) {
    await this.$('.menu summary').click();
    await this.$('.menu').getByRole('link', { name: label, exact: true }).click();
    return this.dialogNow();
  }

  async dialogNow() {
    const dialog = this.$('dialog[open]');
    await dialog.locator('form').waitFor();
    return dialog;
  }

  /** Presses a button of the dialog and waits until the dialog has gone. */
  async confirm(label) {
    await this.button(label, this.$('dialog[open]')).click();
    await this.$('dialog[open]').waitFor({ state: 'detached' }).catch(async (error) => {
      throw new Error(`the dialog stays open: ${await this.$('dialog').innerText()}`, { cause: error });
    });
  }

  /** Does what a menu entry does, with a reason if one is given. */
  async act(label, reason) {
    const dialog = await this.choose(label);
    if (reason) await dialog.getByLabel('Reason').fill(reason);
    await this.confirm(label);
  }

  /** Waits until an element says something. */
  async sees(selector, text) {
    const where = this.$(selector);
    await where.filter({ hasText: text }).first().waitFor().catch(async (error) => {
      const found = await where.allInnerTexts();
      throw new Error(`${selector} never said ${text}, but ${JSON.stringify(found)}`, { cause: error });
    });
  }

  /** Leaves, and says what went wrong. */
  async leave() {
    await this.context.close();
    const wrong = this.wrong.filter((text) => !this.#allowed.some((pattern) => pattern.test(text)));
    assert.deepEqual(wrong, [], 'what went wrong in the browser');
  }
}

/** Waits until a condition holds, asking again as soon as it was answered. */
export async function until(what, condition) {
  const deadline = performance.now() + PATIENCE;
  let last;
  while (performance.now() < deadline) {
    last = await condition();
    if (last) return last;
  }
  throw new Error(`never came true: ${what}`);
}

/** A directory of the test's own, away when it ends. */
export async function directory(t) {
  const path = await mkdtemp(join(tmpdir(), 'phasegate-browser-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return join(path, 'data');
}

/** Launches the browser. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking'],
  });
}

/**
 * A stage: a browser, and a server unless `server` is null, for all tests of a file. Gives `test`, whose
 * body is handed `{ server, person(options), t }`; everybody leaves at the end of it.
 */
export function stage(options = {}) {
  const shared = {};
  before(async () => {
    const { setUp, ...rest } = options;
    [shared.browser, shared.server] = await Promise.all([
      launch(), options.server === null ? null : Server.start(rest),
    ]);
    await setUp?.(shared.server);
  }, { timeout: 60_000 });
  after(async () => {
    await shared.browser?.close();
    await shared.server?.stop();
  });
  const test = (sentence, body) => nodeTest(sentence, { timeout: 60_000 }, async (t) => {
    const people = [];
    const person = async (who = {}) => {
      const { url = shared.server?.url, ...rest } = who;
      const somebody = await Person.arrive(shared.browser, url, rest);
      people.push(somebody);
      return somebody;
    };
    try {
      await body({ t, server: shared.server, browser: shared.browser, person });
    } catch (error) {
      const wrong = people.flatMap((one) => one.wrong);
      if (wrong.length > 0) error.message += `\nin the browser: ${wrong.join('\n')}`;
      await Promise.allSettled(people.map((one) => one.context.close()));
      throw error;
    }
    for (const one of people) await one.leave();
  });
  return { test, shared };
}
