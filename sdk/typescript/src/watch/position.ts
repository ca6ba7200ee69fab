// Where a watch stands.

/** A position as it may be given: its own JSON, read back, is one. */
export interface PositionInit {
  /** A whole number, in digits if it is a text. */
  readonly revision: bigint | number | string;
  /** The store whose revision it is. */
  readonly storeId: string;
}

/**
 * A place in the log: everything up to it was delivered. What is needed to go on from there, also in another
 * process: `JSON.stringify` writes it, and what `JSON.parse` makes of that is taken for `from`.
 */
export class Position {
  /** The last revision that was delivered; 0 begins with a snapshot. Of the audit chain: the last entry. */
  readonly revision: bigint;
  /** The store whose revision it is. Another one has other revisions. */
  readonly storeId: string;

  /** Throws if the revision is no whole number. */
  constructor({ revision, storeId }: PositionInit) {
    this.revision = BigInt(revision);
    this.storeId = storeId;
  }

  /** 64-bit integers are strings in JSON, as everywhere in proto JSON. */
  toJSON(): { revision: string; storeId: string } {
    return { revision: String(this.revision), storeId: this.storeId };
  }

  /** Whether nothing was delivered yet. */
  get isBeginning(): boolean {
    return this.revision === 0n && this.storeId === '';
  }
}

/** Where a watch begins that resumes nothing. */
export const beginning = new Position({ revision: 0n, storeId: '' });
