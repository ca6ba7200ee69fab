// A client as the suite drives it: a child that reads commands and writes answers, a JSON object a line.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export class Runner {
  #child;
  #waiting = new Map();
  #last = 0;
  #ended;

  /** Starts a command line, such as `['sdk/go/runner']`. What it says on stderr goes to ours. */
  constructor(commandLine) {
    const [program, ...args] = commandLine;
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the runner ended: ${signal ?? code}`));
      this.#waiting.clear();
      return code;
    });
    this.#child.on('error', (error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
    });
    // A runner that has ended says so above.
    this.#child.stdin.on('error', () => {});
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(line));
  }

  #hear(line) {
    const answer = JSON.parse(line);
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) throw new Error(`the runner answers what nobody asked: ${line}`);
    this.#waiting.delete(answer.id);
    if (answer.error?.code === 'RUNNER') waiting.reject(new Error(`the runner cannot: ${answer.error.message}`));
    else waiting.resolve(answer);
  }

  /** Tells it something; gives the answer, `{ ok }` or `{ error }`. */
  tell(what, members = {}) {
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // Whoever waits for it looks; a scenario that has failed before does not.
    answer.catch(() => {});
    this.#child.stdin.write(`${JSON.stringify({ id, do: what, ...members })}\n`);
    return answer;
  }

  /** Ends it, and fails if it did not end well. */
  async end() {
    this.#child.stdin.end();
    const code = await this.#ended;
    if (code !== 0) throw new Error(`the runner ended with ${code}`);
  }

  /** Ends it, whatever it does. */
  kill() { this.#child.kill('SIGKILL'); }
}
