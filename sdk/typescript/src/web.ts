/**
 * The client of Phasegate for browsers, and for whatever else has `fetch`: gRPC-web over HTTP.
 *
 * @module
 */

import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { Caller } from './calls.js';
import { type Client, clientOf } from './client.js';
import { wrong } from './error.js';
import {
  address,
  type ConnectOptions,
  checkPlaintext,
  nobody,
  settings,
  tokenCredential,
} from './options.js';

export * from './shared.js';

/** What needs files, which a browser has none of. */
const FILES = ['tokenFile', 'caFile', 'certificateFile', 'keyFile'] as const;

/**
 * A client of the server at an address such as `https://gate.example.com:7433`, over gRPC-web. The server has
 * to be told of the page's origin: `phasegate serve --grpc-web-origin`. Connects when it is first used. Throws
 * {@link PhasegateError} if the options cannot be followed.
 *
 * Which connections are open is the browser's decision. Over plain http it opens six to one server, of which
 * every watch takes one.
 */
export function connect(to: string, options: ConnectOptions = {}): Client {
  const url = address(to);
  checkPlaintext(url, options);
  for (const file of FILES) {
    if (options[file] !== undefined) throw wrong(`${file} is an option of @phasegate/client/node only`);
  }
  const credential = options.token === undefined ? nobody : tokenCredential(options.token);
  const transport = createGrpcWebTransport({ baseUrl: url.origin });
  const link = { calls: transport, seat: () => ({ transport, leave: () => {} }), close: () => {} };
  return clientOf(new Caller(link, settings(options), credential));
}
