// How calls and watches reach a server.

import type { Transport } from '@connectrpc/connect';

/** A place on a connection, for as long as a watch lasts. */
export interface Seat {
  readonly transport: Transport;
  /** Gives the place back. */
  leave(): void;
}

/** The connections of one client. Each is made when it is first needed, and again when it was lost. */
export interface Link {
  /** For everything but watches. */
  readonly calls: Transport;
  /** For one watch. */
  seat(): Seat;
  /** Ends all connections. */
  close(): void;
}
