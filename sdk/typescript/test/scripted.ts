// A server that does what a script says: answers, refuses, sends so many messages of a stream and then ends
// it, falls silent, or cuts the connection. It writes down every call.

import { once } from 'node:events';
import { createServer as createHttp1 } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import type { AddressInfo, Server, Socket } from 'node:net';
import { after } from 'node:test';
import type { DescMessage, DescService, Message, MessageInitShape } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from '../src/gen/google/rpc/error_details_pb.js';
import { ClockService } from '../src/gen/phasegate/rehearsal/v1/clock_pb.js';
import * as overGrpc from '../src/node.js';
import * as v1 from '../src/v1.js';
import * as overGrpcWeb from '../src/web.js';

/** How the client speaks to it. */
export type Wire = 'gRPC' | 'gRPC-web';
export const WIRES: readonly Wire[] = ['gRPC', 'gRPC-web'];

/** Longer than anything in a test takes, shorter than anybody wants to wait for a test that hangs. */
export const PATIENCE_MS = 30_000;

/** What a call gets. Silence lasts for ever; a cut is one of all connections. */
export type Reply = { answer: object } | { refusal: ConnectError } | 'silence' | 'cut';
/** What a stream does next. */
export type Step = { send: object } | { end: ConnectError | 'ok' } | 'silence';

/** A call that came. */
export interface Call {
  readonly rpc: string;
  readonly headers: Headers;
  // Of whichever type the RPC has.
  readonly request: Message & Record<string, unknown>;
  /** Resolves when the client has left it. */
  readonly left: Promise<void>;
}

const SERVICES: readonly DescService[] = [
  v1.FlagService,
  v1.PipelineService,
  v1.ReleaseService,
  v1.AccessService,
  v1.AuditService,
  v1.NotificationService,
  ClockService,
];

/** The server. Ends with the tests of its file. */
export class Scripted {
  readonly calls: Call[] = [];
  readonly #wire: Wire;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #replies: Reply[] = [];
  readonly #streams: Step[][] = [];
  readonly #waiting: (() => void)[] = [];
  /** How many messages of streams were asked for by the transport. */
  sent = 0;

  private constructor(wire: Wire) {
    this.#wire = wire;
    const routes = (router: ConnectRouter): void => {
      for (const service of SERVICES) router.service(service, this.#implementation(service));
    };
    const handler = connectNodeAdapter({ routes, connect: false });
    this.#server = wire === 'gRPC' ? createHttp2(handler) : createHttp1(handler);
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(wire: Wire = 'gRPC'): Promise<Scripted> {
    const scripted = new Scripted(wire);
    scripted.#server.listen(0, '127.0.0.1');
    await once(scripted.#server, 'listening');
    after(() => scripted.stop());
    return scripted;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A client of it, without waits before a call is made again. */
  client(options: overGrpc.ConnectOptions = {}): overGrpc.Client {
    const { connect } = this.#wire === 'gRPC' ? overGrpc : overGrpcWeb;
    const retry = { firstMs: 0, longestMs: 0 };
    const client = connect(this.address, { retry, timeoutMs: PATIENCE_MS, ...options });
    after(() => client.close());
    return client;
  }

  /** The next call that is not a watch gets this. */
  reply(...replies: Reply[]): this {
    this.#replies.push(...replies);
    return this;
  }

  /** The next watch does this. */
  stream(...steps: Step[]): this {
    this.#streams.push(steps);
    return this;
  }

  /** Calls of one RPC. */
  callsOf(rpc: string): Call[] {
    return this.calls.filter((call) => call.rpc === rpc);
  }

  /** Resolves with the next call. */
  async nextCall(): Promise<Call> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.calls.at(-1) as Call;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop(): void {
    this.#server.close();
    this.cut();
  }

  #note(rpc: string, request: Message, { requestHeader: headers, signal }: HandlerContext): void {
    const left = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    this.calls.push({ rpc, headers, request: request as Call['request'], left });
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #implementation(service: DescService): Partial<ServiceImpl<DescService>> {
    const methods = service.methods.map(({ localName, methodKind }) => [
      localName,
      methodKind === 'unary'
        ? (request: Message, context: HandlerContext) => this.#unary(localName, request, context)
        : (request: Message, context: HandlerContext) => this.#streaming(localName, request, context),
    ]);
    // What is built from descriptors has no types of its own.
    return Object.fromEntries(methods) as Partial<ServiceImpl<DescService>>;
  }

  async #unary(rpc: string, request: Message, context: HandlerContext): Promise<object> {
    this.#note(rpc, request, context);
    const reply = this.#replies.shift() ?? { refusal: new ConnectError('the script is over', Code.DataLoss) };
    if (reply === 'silence') return silence(context);
    if (reply === 'cut') {
      this.cut();
      throw new ConnectError('nobody hears this', Code.DataLoss);
    }
    if ('refusal' in reply) throw reply.refusal;
    return reply.answer;
  }

  async *#streaming(rpc: string, request: Message, context: HandlerContext): AsyncGenerator<object> {
    this.#note(rpc, request, context);
    const end = { end: new ConnectError('the script is over', Code.PermissionDenied) };
    for (const step of [...(this.#streams.shift() ?? []), end]) {
      if (step === 'silence') await silence(context);
      else if ('send' in step) {
        this.sent += 1;
        yield step.send;
      } else if (step.end === 'ok') return;
      else throw step.end;
    }
  }
}

function silence({ signal }: HandlerContext): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new ConnectError('left', Code.Canceled)));
  });
}

/** A refusal of the server's own. */
export function refused(code: Code, reason: string, retryAfterMs?: number, message = 'no'): ConnectError {
  const details: { desc: DescMessage; value: MessageInitShape<DescMessage> }[] = [info(reason)];
  if (retryAfterMs !== undefined) {
    const seconds = BigInt(Math.floor(retryAfterMs / 1000));
    const retryDelay = { seconds, nanos: (retryAfterMs % 1000) * 1_000_000 };
    details.push({ desc: RetryInfoSchema, value: { retryDelay } });
  }
  return new ConnectError(message, code, undefined, details as never);
}

/** The detail that names a reason. */
export function info(reason: string, domain = 'phasegate.v1', metadata: Record<string, string> = {}) {
  return { desc: ErrorInfoSchema, value: { reason, domain, metadata } };
}

/** The detail that lists what is wrong with a request. */
export function bad(...fieldViolations: { field: string; description: string }[]) {
  return { desc: BadRequestSchema, value: { fieldViolations } };
}
