// The HTTP/2 connections of a client: one for calls, and as many for watches as they need. Streams that
// deliver little and live long would else fill the connection that calls need.

import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import type { Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { Link, Seat } from '../link.js';

/**
 * Watches on one connection. Beyond the server's limit of streams the rest would wait in silence; proxies
 * commonly allow 100.
 */
const WATCHES_PER_CONNECTION = 100;
/** A connection that does not come about in this time will not. */
const CONNECT_TIMEOUT_MS = 5_000;
/** A peer that does not answer a ping for so long is gone: how a cut cable is found. */
const PING_INTERVAL_MS = 30_000;
const PING_TIMEOUT_MS = 20_000;
/** The largest message that is read: the server sends none above it. */
const RECEIVE_MAX_BYTES = 4 * 1024 * 1024;

/** What a connection is made with. */
interface Endpoint {
  readonly url: URL;
  readonly tls: SecureContext | undefined;
  readonly timeoutMs: number;
}

/** One connection, and who uses it. */
interface Connection {
  readonly transport: Transport;
  readonly sessions: Http2SessionManager;
  taken: number;
}

/** Connections to a server; `timeoutMs` is how long one may take to come about. */
export function connections(url: URL, tls: SecureContext | undefined, timeoutMs = CONNECT_TIMEOUT_MS): Link {
  const endpoint = { url, tls, timeoutMs };
  const calls = connection(endpoint, 'while busy');
  const watches: Connection[] = [];
  return {
    calls: calls.transport,
    seat(): Seat {
      let place = watches.find(({ taken }) => taken < WATCHES_PER_CONNECTION);
      if (place === undefined) {
        // An idle watch sends nothing, and must find a dead peer all the same.
        place = connection(endpoint, 'always');
        watches.push(place);
      }
      const { transport } = place;
      place.taken += 1;
      return { transport, leave: () => leave(watches, place) };
    },
    close(): void {
      for (const { sessions } of [calls, ...watches]) sessions.abort();
    },
  };
}

/** Gives a place back. The last connection is kept for the next watch. */
function leave(watches: Connection[], place: Connection): void {
  place.taken -= 1;
  if (place.taken > 0 || watches.length === 1) return;
  watches.splice(watches.indexOf(place), 1);
  place.sessions.abort();
}

function connection({ url, tls, timeoutMs }: Endpoint, pinged: 'always' | 'while busy'): Connection {
  const pings = {
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: PING_TIMEOUT_MS,
    pingIdleConnection: pinged === 'always',
  };
  const createConnection = () => socket({ url, tls, timeoutMs });
  const sessions = new Http2SessionManager(url.origin, pings, { createConnection });
  const transport = createGrpcTransport({
    baseUrl: url.origin,
    sessionManager: sessions,
    readMaxBytes: RECEIVE_MAX_BYTES,
    // Compression costs the server more memory than it spares the network.
    acceptCompression: [],
  });
  return { transport, sessions, taken: 0 };
}

function socket({ url, tls, timeoutMs }: Endpoint): Socket {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const to = { host, port: Number(url.port || (tls === undefined ? 80 : 443)), noDelay: true };
  const [made, ready] =
    tls === undefined
      ? [connectTcp(to), 'connect']
      : [
          // The name of a server cannot be an address (RFC 6066).
          connectTls({
            ...to,
            secureContext: tls,
            ALPNProtocols: ['h2'],
            ...(isIP(host) === 0 && { servername: host }),
          }),
          'secureConnect',
        ];
  const late = () => made.destroy(new Error(`no connection to ${url.host} within ${timeoutMs / 1000} s`));
  const timer = setTimeout(late, timeoutMs);
  made.once(ready, () => clearTimeout(timer));
  made.once('close', () => clearTimeout(timer));
  return made;
}
