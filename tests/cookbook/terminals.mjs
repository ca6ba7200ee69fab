// What a reader of a page has: a shell, and more terminals in which something goes on.
//
// A page names ports such as 7433. Here every server takes a free one, and the numbers are exchanged on the way in
// and on the way out. Nothing waits for time to pass: what is waited for is an end, or an output.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { linesOf, standsForFirst } from './notation.mjs';

const ROOT = join(import.meta.dirname, '..', '..');

/** Longer than anything here takes, on a busy machine. */
const PATIENCE = 60_000;

/** Where `phasegate serve` listens if nothing else is said. */
const DEFAULT_PORT = '7433';

const LISTENING = /^listening on https?:\/\/127\.0\.0\.1:(\d+)$/m;

export class Terminals {
  #directory;
  #blocks;
  #env;
  #shell;
  #heard = '';
  #count = 0;
  #running = new Map();
  /** From the port on the page to the one that a server has here. */
  #ports = new Map();

  /** A shell in a directory of its own, which has the examples in it. */
  static async open(directory) {
    const terminals = new Terminals();
    terminals.#directory = join(directory, 'work');
    terminals.#blocks = join(directory, 'blocks');
    await mkdir(terminals.#blocks);
    await mkdir(terminals.#directory);
    await symlink(join(ROOT, 'examples'), join(terminals.#directory, 'examples'));
    const inherited = Object.entries(process.env).filter(([key]) => !/^(PHASEGATE|COOKBOOK)_/.test(key));
    terminals.#env = {
      ...Object.fromEntries(inherited),
      PATH: `${process.env.COOKBOOK_TOOLS}:${process.env.PATH}`,
      HOME: directory, XDG_CONFIG_HOME: join(directory, 'config'), XDG_CACHE_HOME: join(directory, 'cache'),
      NO_COLOR: '1', LC_ALL: 'C.UTF-8', TZ: 'UTC',
    };
    terminals.#shell = spawn('bash', ['--noprofile', '--norc'], {
      cwd: terminals.#directory, env: terminals.#env, stdio: ['pipe', 'pipe', 'ignore'], detached: true,
    });
    terminals.#shell.stdout.on('data', (bytes) => { terminals.#heard += bytes; });
    return terminals;
  }

  /** Runs a block in the shell; gives its exit code and what it printed. */
  async run(command) {
    this.#count += 1;
    const block = join(this.#blocks, `${this.#count}`);
    // A command that fails ends the block and not the shell.
    const ends = `trap 'ended=$?; trap - ERR; return $ended' ERR\nset -o pipefail\nshopt -s expand_aliases\n`;
    const address = this.#ports.has(DEFAULT_PORT)
      ? `export PHASEGATE_ADDRESS=http://127.0.0.1:${this.#ports.get(DEFAULT_PORT)}\n` : '';
    await writeFile(block, `${ends}${address}${this.#inwards(command)}\ntrap - ERR\n`);
    this.#heard = '';
    this.#shell.stdin.write(`source '${block}' >'${block}.out' 2>&1 </dev/null; echo "ended $?"\n`);
    const ended = await this.#until(`an end of\n${command}`, this.#shell, () => /^ended (\d+)$/m.exec(this.#heard));
    const printed = this.#outwards(await readFile(`${block}.out`, 'utf8'));
    return { exit: Number(ended[1]), printed: linesOf(printed) };
  }

  /** Runs a command in the terminal of that name, where nothing else goes on then. */
  async start(name, command) {
    await this.#interrupt(name);
    const port = this.#ports.get(DEFAULT_PORT);
    const env = {
      ...this.#env, PHASEGATE_LISTEN: '127.0.0.1:0', ...(port && { PHASEGATE_ADDRESS: `http://127.0.0.1:${port}` }),
    };
    const listens = /--listen[ =]127\.0\.0\.1:(\d+)/.exec(command);
    const free = listens ? command.replace(listens[0], '--listen 127.0.0.1:0') : command;
    const child = spawn('bash', ['--noprofile', '--norc', '-c', `exec 2>&1\n${this.#inwards(free)}`], {
      cwd: this.#directory, env, stdio: ['ignore', 'pipe', 'ignore'], detached: true,
    });
    const running = { child, said: '', taken: 0, isServer: /\bphasegate serve\b/.test(command) };
    child.stdout.on('data', (bytes) => { running.said += bytes; });
    this.#running.set(name, running);
    if (!running.isServer) return;
    const heard = await this.#until(`a server from\n${command}`, child, () => LISTENING.exec(running.said));
    this.#ports.set(listens?.[1] ?? DEFAULT_PORT, heard[1]);
  }

  /** Waits until a terminal has printed what is shown; gives what it printed instead if it ends before. */
  async shows(name, shown) {
    const running = this.#running.get(name);
    if (!running) throw new Error(`nothing runs in the terminal ${name}`);
    const rest = () => {
      // A line that may go on is none yet.
      const lines = running.child.stdout.closed ? running.said : running.said.slice(0, running.said.lastIndexOf('\n') + 1);
      return linesOf(this.#outwards(lines)).slice(running.taken);
    };
    const taken = () => standsForFirst(shown, rest());
    try {
      running.taken += await this.#until(`"${shown.join('\n')}" in ${name}`, running.child, taken);
      return undefined;
    } catch {
      return rest();
    }
  }

  /** Ends what runs in terminals, servers apart; gives what they have printed and no page has shown. */
  async leftOver() {
    const others = [...this.#running].filter(([, running]) => !running.isServer);
    await Promise.all(others.map(([, { child }]) => end(child, 'SIGINT')));
    return others.flatMap(([name, running]) => {
      const lines = linesOf(this.#outwards(running.said)).slice(running.taken);
      return lines.length > 0 ? [`in ${name}:\n${lines.join('\n')}`] : [];
    });
  }

  /** Ends all that runs. */
  async close() {
    const children = [this.#shell, ...[...this.#running.values()].map(({ child }) => child)];
    await Promise.all(children.map((child) => end(child, 'SIGKILL')));
  }

  async #interrupt(name) {
    const running = this.#running.get(name);
    if (running) await end(running.child, 'SIGINT');
    this.#running.delete(name);
  }

  /** Waits for outputs of a child until one makes `found` give something; gives that. */
  async #until(what, child, found) {
    const patience = AbortSignal.timeout(PATIENCE);
    for (;;) {
      const value = found();
      if (value !== undefined && value !== null) return value;
      if (child.stdout.closed) throw new Error(`it ended, and there was not ${what}`);
      const step = new AbortController();
      const signal = AbortSignal.any([patience, step.signal]);
      try {
        // `close` comes after the last output.
        await Promise.race([once(child.stdout, 'data', { signal }), once(child, 'close', { signal })]);
      } catch {
        throw new Error(`there was not in time ${what}`);
      } finally {
        step.abort();
      }
    }
  }

  #inwards(text) {
    let changed = text;
    for (const [page, here] of this.#ports) changed = changed.replace(new RegExp(`(?<=:)${page}\\b`, 'g'), here);
    return changed;
  }

  #outwards(text) {
    let changed = text;
    for (const [page, here] of this.#ports) changed = changed.replace(new RegExp(`(?<=:)${here}\\b`, 'g'), page);
    return changed;
  }
}

/** Ends a child with all that it started, and waits until all that they printed was read. */
async function end(child, signal) {
  if (child.stdout.closed) return;
  const closed = once(child, 'close');
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    // It has ended by itself, and we have not heard of it yet.
    if (error.code !== 'ESRCH') throw error;
  }
  await closed;
}
