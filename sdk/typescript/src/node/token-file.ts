// A token in a file, read again whenever the file has changed.

import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { wrong } from '../error.js';
import { bearer, type Credential } from '../options.js';

/** Throws if the file holds no token now. */
export function tokenFileCredential(path: string): Credential {
  // The stamp comes first: a change in between is then read once more, and not overlooked.
  let last = { stamp: '', value: '' };
  try {
    const stamp = stampOf(statSync(path));
    last = { stamp, value: bearer(readFileSync(path, 'utf8')) };
  } catch (cause) {
    throw unreadable(path, cause);
  }
  return {
    canRenew: true,
    async value() {
      try {
        const stamp = stampOf(await stat(path));
        if (stamp !== last.stamp) last = { stamp, value: bearer(await readFile(path, 'utf8')) };
      } catch {
        // Half a renewal, or none, is no reason to send nothing: the last one is used further.
      }
      return last.value;
    },
  };
}

/** What tells one state of a file from another. */
function stampOf({ mtimeMs, size, ino }: { mtimeMs: number; size: number; ino: number }): string {
  return `${mtimeMs} ${size} ${ino}`;
}

function unreadable(path: string, cause: unknown) {
  return wrong(`cannot read the token in ${path}: ${cause instanceof Error ? cause.message : cause}`, cause);
}
