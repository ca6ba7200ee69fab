// The ways on which applications get answers: a provider of OpenFeature out of a registry on each.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { TOOLS, load } from './packages.mjs';
import { Events, PATIENCE } from './stage.mjs';

const { FlagdProvider } = await load('@openfeature/flagd-provider');
const { OFREPProvider } = await load('@openfeature/ofrep-provider');
const { OpenFeature, ProviderEvents } = await load('@openfeature/server-sdk');

const HOST = '127.0.0.1';

/**
 * Options that decide when a provider tells of a lost connection. It has to have tried again within the shortest
 * loss of a scenario, a second; and its error has to come within the longest, 8 s, but not before a server that
 * comes back at once is there again.
 */
const GRACE_SECONDS = 4;
const BACKOFF_MS = 200;

const NAMES = { [ProviderEvents.Ready]: 'ready', [ProviderEvents.Stale]: 'stale', [ProviderEvents.Error]: 'error' };

const METHODS = {
  Boolean: 'getBooleanDetails', String: 'getStringDetails', Object: 'getObjectDetails',
  Integer: 'getNumberDetails', Float: 'getNumberDetails',
};

let domains = 0;

/** An application on Node with a provider. */
async function onNode(provider) {
  domains += 1;
  const domain = `scenario ${domains}`;
  const client = OpenFeature.getClient(domain);
  const events = new Events();
  for (const [event, name] of Object.entries(NAMES)) client.addHandler(event, () => events.tell(name));
  await OpenFeature.setProviderAndWait(domain, provider);
  return {
    events,
    async evaluate(type, key, fallback, context) {
      const { value, variant, reason, errorCode, flagMetadata } = await client[METHODS[type]](key, fallback, context);
      return { value, variant, reason, errorCode, metadata: flagMetadata };
    },
    close: () => provider.onClose?.(),
  };
}

const flagd = (resolverType) => ({ port, environment, cache }) => onNode(new FlagdProvider({
  host: HOST, port, tls: false, resolverType, cache, selector: `flagSetId=${environment}`,
  deadlineMs: PATIENCE, retryGracePeriod: GRACE_SECONDS, retryBackoffMs: BACKOFF_MS, retryBackoffMaxMs: BACKOFF_MS,
}));

const ofrep = ({ port, environment }) => onNode(
  new OFREPProvider({ baseUrl: `http://${HOST}:${port}/environments/${environment}` }),
);

/** A program in Python that has an application for each scenario, spoken to by lines of JSON. */
class Python {
  #child;
  #waiting = new Map();
  #events = new Map();
  #count = 0;
  #said = '';

  /** Asks something; each answer has the number of its question. */
  #ask(question) {
    this.#child ??= this.#start();
    this.#count += 1;
    const number = this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ number, ...question })}\n`);
    });
  }

  #start() {
    const program = join(import.meta.dirname, 'in_process.py');
    const child = spawn(join(TOOLS, 'python', 'bin', 'python'), [program], { stdio: 'pipe' });
    child.stderr.on('data', (bytes) => { this.#said += bytes; });
    child.stdin.on('error', () => {});
    child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the program in Python ended: ${this.#said}`));
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { event, client, number, answer, problem } = JSON.parse(line);
      if (event) {
        this.#events.get(client)?.tell(event);
        return;
      }
      const { resolve, reject } = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (problem) reject(new Error(problem));
      else resolve(answer);
    });
    return child;
  }

  async open({ port, environment }) {
    domains += 1;
    const client = domains;
    const events = new Events();
    this.#events.set(client, events);
    await this.#ask({
      open: client, port, selector: `flagSetId=${environment}`,
      deadline: PATIENCE, grace: GRACE_SECONDS, backoff: BACKOFF_MS,
    });
    return {
      events,
      evaluate: (type, key, fallback, context) => this.#ask({ evaluate: client, type, key, fallback, context }),
      close: () => this.#ask({ close: client }),
    };
  }

  async end() {
    if (!this.#child) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

const python = new Python();

/** `open` gives an application; `caches` is a way whose provider keeps answers, `tells` one that tells of losses. */
export const WAYS = [
  { id: 'rpc', name: 'RPC v2, Node', open: flagd('rpc'), caches: true, tells: true },
  { id: 'ofrep', name: 'OFREP, Node', open: ofrep },
  { id: 'node', name: 'in process, Node', open: flagd('in-process'), tells: true },
  { id: 'python', name: 'in process, Python', open: (options) => python.open(options), tells: true },
];

/** Ends what the ways have started. */
export async function end() {
  await python.end();
  await OpenFeature.close();
}
