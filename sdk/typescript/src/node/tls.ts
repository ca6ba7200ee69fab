// Whom a client trusts, and what it shows for itself.

import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import { wrong } from '../error.js';
import type { ConnectOptions } from '../options.js';

/** What TLS to this address is made with; none over http. */
export function tls(url: URL, options: ConnectOptions): SecureContext | undefined {
  const { caFile, certificateFile, keyFile } = options;
  if ((certificateFile === undefined) !== (keyFile === undefined)) {
    throw wrong('certificateFile and keyFile need each other');
  }
  if (url.protocol === 'http:') {
    if (caFile !== undefined || certificateFile !== undefined) {
      throw wrong('certificates need an https address');
    }
    return undefined;
  }
  const files = {
    ...(caFile !== undefined && { ca: read(caFile) }),
    ...(certificateFile !== undefined && { cert: read(certificateFile) }),
    ...(keyFile !== undefined && { key: read(keyFile) }),
  };
  try {
    return createSecureContext({ ...files, minVersion: 'TLSv1.2' });
  } catch (cause) {
    throw wrong(`there is no TLS with these files: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw wrong(`cannot read ${path}: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}
