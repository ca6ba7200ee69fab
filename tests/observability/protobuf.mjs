// As much of Protocol Buffers as messages of OTLP and a call need, by numbers of fields.

/** Reads a message: for each field its values, in order. Numbers of 64 bits are BigInts, the rest bytes. */
export function decode(bytes) {
  const fields = new Map();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('a message that ends inside a number');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length) => {
    if (at + length > bytes.length) throw new Error('a message that ends inside a field');
    return bytes.subarray(at, at += length);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const value = [varint, () => take(8), () => take(Number(varint())), null, null, () => take(4)][key & 7]();
    fields.set(key >> 3, [...fields.get(key >> 3) ?? [], value]);
  }
  return {
    all: (number) => fields.get(number) ?? [],
    bytes: (number) => fields.get(number)?.at(-1) ?? Buffer.alloc(0),
    text: (number) => (fields.get(number)?.at(-1) ?? Buffer.alloc(0)).toString(),
    number: (number) => Number(fields.get(number)?.at(-1) ?? 0n),
    messages: (number) => (fields.get(number) ?? []).map(decode),
  };
}

/** Writes a message of texts: `{1: 'a', 4: 'b'}`. */
export function encodeTexts(texts) {
  const parts = Object.entries(texts).map(([number, text]) => {
    const bytes = Buffer.from(text);
    if (bytes.length > 127) throw new Error('longer than a test needs');
    return Buffer.concat([Buffer.from([(Number(number) << 3) | 2, bytes.length]), bytes]);
  });
  return Buffer.concat(parts);
}
