// Where to, as whom, how patiently: what a caller may say, and what is left of it once it was checked.

import type { Retry } from './decisions.js';
import { wrong } from './error.js';

/** How a client connects. Everything is optional. */
export interface ConnectOptions {
  /**
   * A bearer token, by which the server knows the caller: a static one, or a JWT of an issuer that it trusts.
   * A function is asked before each call, and is how a token is renewed.
   */
  readonly token?: string | (() => string | Promise<string>);
  /** The same, from a file that is read again whenever it has changed. Node only. */
  readonly tokenFile?: string;
  /**
   * Sends a token in plain text to another machine, too, where whoever is on the way can take it. Without
   * this it is sent over `https`, or on this machine.
   */
  readonly insecurePlaintextToken?: boolean;
  /**
   * A file of the authorities that the server's certificate has to be from, in PEM, instead of those that Node
   * comes with. Node only.
   */
  readonly caFile?: string;
  /** A file with a certificate and its chain, in PEM, by which the server knows the caller. Node only. */
  readonly certificateFile?: string;
  /** The file with the certificate's key, in PEM. Node only. */
  readonly keyFile?: string;
  /**
   * Who calls, where the server believes it: on loopback without an authentication file. Without it such a
   * server takes the caller for `anonymous`.
   */
  readonly principal?: string;
  /** The groups the caller is in, which approvals are counted by. Believed where `principal` is. */
  readonly groups?: readonly string[];
  /**
   * How many milliseconds one call may take, all its attempts together. Watches have no such limit. Default
   * 30,000.
   */
  readonly timeoutMs?: number;
  /** How calls are made again. */
  readonly retry?: Partial<Retry>;
  /**
   * A watch that hears nothing for so many milliseconds takes its connection for dead. The server is never
   * silent for more than 15 s. Default 45,000.
   */
  readonly silenceMs?: number;
}

/** What one call may be told. */
export interface CallOptions {
  /** Ends the call when it is aborted: with the code `CANCELLED`, and the signal's reason as the `cause`. */
  readonly signal?: AbortSignal | undefined;
  /** Instead of the client's own `timeoutMs`. */
  readonly timeoutMs?: number | undefined;
}

/** What all calls of a client have in common. */
export interface Settings {
  /** Sent with everything: who calls. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly retry: Retry;
  readonly silenceMs: number;
}

/** What proves who calls. */
export interface Credential {
  /** The value of `authorization`; none if nothing proves it. */
  value(): Promise<string | undefined>;
  /** Whether another value may come when this one is refused. */
  readonly canRenew: boolean;
}

/** The checked address of a server, without a path. */
export function address(given: string): URL {
  const refusal = () => wrong(`${JSON.stringify(given)} is no address such as http://127.0.0.1:7433`);
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw refusal();
  }
  // What a URL may have and an address does not would be left out without a word.
  const rest = url.pathname.replace(/^\/$/, '') + url.search + url.hash + url.username + url.password;
  if (!/^https?:\/\//.test(given) || url.hostname === '' || rest !== '') throw refusal();
  return url;
}

/** Refuses what would be sent where others can read it. */
export function checkPlaintext(url: URL, options: ConnectOptions): void {
  const hasToken = options.token !== undefined || options.tokenFile !== undefined;
  if (url.protocol === 'https:' || !hasToken || options.insecurePlaintextToken === true) return;
  if (isLoopback(url.hostname)) return;
  throw wrong(`a token is not sent to ${url.hostname} over http, where others can read it; use https`);
}

/** This machine, as it is written: a name is not looked up. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/** The checked settings of a client. */
export function settings(options: ConnectOptions): Settings {
  const metadata: Record<string, string> = {};
  if (options.principal !== undefined) {
    metadata['phasegate-principal'] = header('principal', options.principal);
  }
  const groups = options.groups ?? [];
  for (const group of groups) {
    if (group.includes(',')) throw wrong(`the group ${JSON.stringify(group)} must not contain a comma`);
  }
  if (groups.length > 0) metadata['phasegate-groups'] = header('groups', groups.join(','));
  const { timeoutMs = 30_000, silenceMs = 45_000, retry = {} } = options;
  return {
    metadata,
    timeoutMs: amount('timeoutMs', timeoutMs, 1),
    silenceMs: amount('silenceMs', silenceMs, 1),
    retry: {
      attempts: amount('retry.attempts', retry.attempts ?? 5, 1),
      firstMs: amount('retry.firstMs', retry.firstMs ?? 200, 0),
      longestMs: amount('retry.longestMs', retry.longestMs ?? 20_000, 0),
    },
  };
}

/** 24 days, in milliseconds. A timer keeps no more than a day longer; one beyond that would be over at once. */
const TIMER_MAX_MS = 24 * 24 * 3600 * 1000;

/** A number that a timer can be set to. */
export function amount(what: string, value: number, least: number): number {
  if (value >= least && value <= TIMER_MAX_MS) return value;
  throw wrong(`${what} is ${value}, and must be between ${least} and ${TIMER_MAX_MS}`);
}

/** Metadata is printable ASCII; anything else would be refused without a word about which key. */
function header(what: string, text: string): string {
  if (/^[ -~]*$/.test(text)) return text;
  throw wrong(`the ${what} ${JSON.stringify(text)} must be printable ASCII`);
}

/** The credential of a caller that has none. */
export const nobody: Credential = { canRenew: false, value: async () => undefined };

/** A token that was given, or is asked for. */
export function tokenCredential(token: string | (() => string | Promise<string>)): Credential {
  if (typeof token === 'function') {
    return { canRenew: true, value: async () => bearer(await token()) };
  }
  const value = bearer(token);
  return { canRenew: false, value: async () => value };
}

/** The value of `authorization` (RFC 6750). The message does not show it. */
export function bearer(token: string): string {
  const word = token.trim();
  if (/^[!-~]+$/.test(word)) return `Bearer ${word}`;
  throw wrong('a token is one word of printable ASCII');
}
