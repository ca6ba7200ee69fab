/**
 * The client of Phasegate for Node: gRPC over HTTP/2.
 *
 * @module
 */

import { Caller } from './calls.js';
import { type Client, clientOf } from './client.js';
import { wrong } from './error.js';
import { connections } from './node/connections.js';
import { tls } from './node/tls.js';
import { tokenFileCredential } from './node/token-file.js';
import {
  address,
  type ConnectOptions,
  type Credential,
  checkPlaintext,
  nobody,
  settings,
  tokenCredential,
} from './options.js';

export * from './shared.js';

/**
 * A client of the server at an address such as `http://127.0.0.1:7433` or `https://gate.example.com:7433`.
 * Connects when it is first used. Throws {@link PhasegateError} if the options cannot be followed, or if a file
 * that they name cannot be read.
 *
 * ```ts
 * const phasegate = connect('http://127.0.0.1:7433', { principal: 'ann@example.com' });
 * console.log(await phasegate.getFlag('flags/checkout-v2'));
 * ```
 */
export function connect(to: string, options: ConnectOptions = {}): Client {
  const url = address(to);
  checkPlaintext(url, options);
  const link = connections(url, tls(url, options));
  return clientOf(new Caller(link, settings(options), credential(options)));
}

function credential({ token, tokenFile }: ConnectOptions): Credential {
  if (token !== undefined && tokenFile !== undefined) throw wrong('either token or tokenFile, not both');
  if (tokenFile !== undefined) return tokenFileCredential(tokenFile);
  return token === undefined ? nobody : tokenCredential(token);
}
