// The runner of `sdk/conformance`: does what it is told on stdin with this SDK, and answers on stdout. It
// decides nothing and compares nothing.
//
//   runner             gRPC
//   runner --grpc-web  gRPC-web, as browsers speak it

import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Watch } from '@phasegate/client';
import * as overGrpc from '@phasegate/client/node';
import * as overGrpcWeb from '@phasegate/client/web';
import { makeCall } from './calls.js';
import { errorJson, filterFromJson, updateJson } from './json.js';

const isWeb = process.argv.includes('--grpc-web');
const { connect } = isWeb ? overGrpcWeb : overGrpc;
type Client = ReturnType<typeof connect>;

/** What makes no sense as a command. */
class Nonsense extends Error {}

interface Command {
  readonly id: number;
  readonly do: string;
  readonly client?: string;
  readonly address?: string;
  readonly method?: string;
  readonly request?: object;
  readonly watch?: string;
  readonly kind?: string;
  readonly name?: string;
  readonly filter?: object;
  readonly from?: { readonly revision: string; readonly storeId: string };
  readonly principal?: string;
  readonly groups?: readonly string[];
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly timeoutMs?: number;
  readonly silenceMs?: number;
  readonly retry?: { readonly attempts?: number; readonly firstMs?: number; readonly longestMs?: number };
}

const clients = new Map<string, Client>();
const watches = new Map<string, Watch<{ readonly type: string }>>();

function found<T>(what: string, among: Map<string, T>, name: string | undefined): T {
  const thing = name === undefined ? undefined : among.get(name);
  if (thing === undefined) throw new Nonsense(`there is no ${what} ${name}`);
  return thing;
}

/** Names of the runner for what the SDK calls otherwise; the rest is called the same. */
function open(command: Command): void {
  const { client, address, ca, certificate, key, principal, groups, token, tokenFile } = command;
  const { timeoutMs, silenceMs, retry } = command;
  if (client === undefined || address === undefined) throw new Nonsense('open needs a client and an address');
  // Pages have no files; a function that is asked for the token is how they renew one.
  const asked = isWeb && tokenFile !== undefined ? () => readFile(tokenFile, 'utf8') : undefined;
  const credential = asked === undefined ? { token, tokenFile } : { token: asked };
  const given = { principal, groups, ...credential, timeoutMs, silenceMs, retry };
  const files = { caFile: ca, certificateFile: certificate, keyFile: key };
  const said = Object.entries({ ...given, ...files }).filter(([, value]) => value !== undefined);
  clients.set(client, connect(address, Object.fromEntries(said)));
}

function beginWatch(client: Client, { kind, name, filter, from }: Command): Watch<{ readonly type: string }> {
  switch (kind) {
    case 'release':
      if (name === undefined) throw new Nonsense('a watch of a release needs its name');
      return client.watchRelease(name, { from });
    case 'releases':
      return client.watchReleases(filterFromJson(filter ?? {}), { from });
    case 'audit':
      return client.watchAuditEntries({ from });
    default:
      throw new Nonsense(`there is no watch of kind ${kind}`);
  }
}

async function obey(command: Command): Promise<unknown> {
  switch (command.do) {
    case 'info':
      return { client: isWeb ? 'typescript-grpc-web' : 'typescript' };
    case 'open':
      open(command);
      return {};
    case 'call': {
      const { method = '', request = {} } = command;
      const answer = makeCall(found('client', clients, command.client), method, request);
      if (answer === undefined) throw new Nonsense(`there is no method ${method}`);
      return await answer;
    }
    case 'watch':
      if (command.watch === undefined) throw new Nonsense('a watch needs a name to be kept under');
      watches.set(command.watch, beginWatch(found('client', clients, command.client), command));
      return {};
    case 'next': {
      const { done, value } = await found('watch', watches, command.watch).next();
      return done === true ? { end: true } : updateJson(value);
    }
    case 'stop':
      await found('watch', watches, command.watch).return();
      return {};
    case 'close':
      found('client', clients, command.client).close();
      return {};
    default:
      throw new Nonsense(`there is no command ${command.do}`);
  }
}

function answer(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function answered(line: string): Promise<void> {
  let id: number | null = null;
  try {
    const command = JSON.parse(line) as Command;
    ({ id } = command);
    answer({ id, ok: await obey(command) });
  } catch (thrown) {
    answer({ id, error: errorJson(thrown) });
  }
}

// Commands are done at the same time: none waits for the one before.
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line.trim() !== '') void answered(line);
  })
  .on('close', () => process.stdout.write('', () => process.exit(0)));
