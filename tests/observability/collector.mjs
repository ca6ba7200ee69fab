// A collector of OTLP over gRPC: keeps spans and metrics, and the headers that they came with.
import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import { decode } from './protobuf.mjs';

const TRACES = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const METRICS = '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export';

/** The messages of gRPC in some bytes. */
function* messages(bytes) {
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32BE(at + 1);
    yield bytes.subarray(at + 5, at + 5 + length);
    at += 5 + length;
  }
}

function framed(message) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Attributes as an object. Of values, texts and whole numbers are read. */
function attributes(list) {
  const value = (any) => (any.all(3).length > 0 ? any.number(3) : any.text(1));
  return Object.fromEntries(list.map((pair) => [pair.text(1), value(pair.messages(2)[0])]));
}

/** What one point of a metric says: a number, or of a histogram how many values. */
function point(message, kind) {
  const sixtyFour = (bytes) => (bytes.length === 8 ? bytes : Buffer.alloc(8));
  if (kind === 'histogram') {
    return { attributes: attributes(message.messages(9)), count: Number(sixtyFour(message.bytes(4)).readBigUInt64LE()) };
  }
  const isWhole = message.all(6).length > 0;
  const value = isWhole ? Number(sixtyFour(message.bytes(6)).readBigInt64LE()) : sixtyFour(message.bytes(4)).readDoubleLE();
  return { attributes: attributes(message.messages(7)), value };
}

export class Collector {
  spans = [];
  /** By name, as they came last. */
  metrics = new Map();
  resources = [];
  headers = [];
  #waiting = new Set();
  #http;

  static async start(t) {
    const collector = new Collector();
    collector.#http = createServer();
    collector.#http.on('stream', (stream, headers) => collector.#answer(stream, headers));
    const sessions = new Set();
    collector.#http.on('session', (session) => sessions.add(session));
    collector.#http.listen(0, '127.0.0.1');
    await once(collector.#http, 'listening');
    collector.url = `http://127.0.0.1:${collector.#http.address().port}`;
    t.after(() => {
      sessions.forEach((session) => session.destroy());
      collector.#http.close();
    });
    return collector;
  }

  async #answer(stream, headers) {
    const parts = [];
    for await (const part of stream) parts.push(part);
    this.headers.push(headers);
    for (const message of messages(Buffer.concat(parts))) this.#take(headers[':path'], decode(message));
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(framed(Buffer.alloc(0)));
    this.#waiting.forEach((look) => look());
  }

  #take(path, message) {
    for (const whole of message.messages(1)) {
      this.resources.push(attributes(whole.messages(1).flatMap((resource) => resource.messages(1))));
      for (const scope of whole.messages(2)) {
        if (path === TRACES) this.spans.push(...scope.messages(2).map(Collector.#span));
        if (path === METRICS) scope.messages(2).forEach((metric) => this.#metric(metric));
      }
    }
  }

  static #span(message) {
    return {
      trace: message.bytes(1).toString('hex'),
      id: message.bytes(2).toString('hex'),
      state: message.text(3),
      parent: message.bytes(4).toString('hex'),
      name: message.text(5),
      kind: message.number(6),
      attributes: attributes(message.messages(9)),
    };
  }

  #metric(message) {
    const [kind, data] = [['gauge', 5], ['sum', 7], ['histogram', 9]]
      .map(([kind, number]) => [kind, message.messages(number)[0]]).find(([, data]) => data);
    const points = data.messages(1).map((one) => point(one, kind));
    this.metrics.set(message.text(1), { kind, unit: message.text(3), points });
  }

  /** Waits until something is there, looking whenever something comes. */
  async until(find) {
    const found = find();
    if (found) return found;
    return new Promise((resolve) => {
      const look = () => {
        const found = find();
        if (!found) return;
        this.#waiting.delete(look);
        resolve(found);
      };
      this.#waiting.add(look);
    });
  }

  /** Waits for a span. */
  span(isIt) { return this.until(() => this.spans.find(isIt)); }
}

/** Makes a call of gRPC; gives its status. */
export async function call(url, method, message, headers = {}) {
  const session = connect(url);
  try {
    const stream = session.request({
      ':method': 'POST', ':path': `/${method}`, 'content-type': 'application/grpc', te: 'trailers', ...headers,
    });
    let status;
    const see = (said) => { status ??= said['grpc-status']; };
    stream.on('response', see).on('trailers', see);
    stream.end(framed(message));
    stream.resume();
    await once(stream, 'close');
    return Number(status);
  } finally {
    session.destroy();
  }
}
