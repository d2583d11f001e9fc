// What a call goes through on either host: authentication, scope, validation, the handler, its deadline, errors, the log.

import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { CallContext, Principal } from "../domain/call.ts";
import { createDeadlines, type Deadlines } from "../lib/deadlines.ts";
import { SessionError } from "../domain/errors.ts";
import { isPushStream, toAsyncIterable, type PushStream } from "../lib/push_stream.ts";
import type { EncodedHandlers, SessionServiceImpl } from "../service/handlers.ts";
import { ANONYMOUS, type Authenticate } from "../auth/authentication.ts";
import { CallFailure, toFailure } from "./errors.ts";
import { createHealth } from "../ops/health.ts";
import { ActiveCall } from "./active_call.ts";
import type { Readiness } from "../ops/readiness.ts";
import { createReflection } from "../ops/reflection.ts";
import { createCallLog, type FinishedCall } from "../ops/call_log.ts";
import {
  openRoutes,
  sessionRoutes,
  type ResponseMessage,
  type Route,
  type StreamHandler,
  type UnaryHandler,
} from "./routes.ts";
import type { RequestValidation } from "./request_validation.ts";

export type PipelineOptions = {
  implementation: SessionServiceImpl;
  /** Default: nothing goes from bytes to bytes. */
  encodedHandlers?: EncodedHandlers;
  readiness: Readiness;
  authenticate: Authenticate;
  validate: RequestValidation["validate"];
  logger: Logger;
  /** How long a unary call without a deadline of its own may take, and the most that one with a deadline may. */
  requestTimeoutMs: number;
  /** One in this many unremarkable calls is logged. Default 100. */
  logSample?: number;
  /** How long a caller may leave a message of a stream unread before the stream is ended. Default 10,000. */
  slowReaderMs?: number;
  /** Shared with the store, so that both use one timer. */
  deadlines?: Deadlines;
  /** Told of every call when it ends, for metrics. */
  observe?: (call: FinishedCall) => void;
};

/** What a host knows of a call. */
export type IncomingCall = {
  readonly authorization: string | undefined;
  /** The client's deadline on the clock of performance.now(); Infinity when it set none. */
  readonly clientDeadlineMs: number;
  /** Calls the listener when the client is gone; doing so after the call has ended is harmless. */
  onCancel(listener: () => void): void;
};

/** A unary call as a host has it: how what it received becomes a request, and an answer what it sends. */
export type UnaryCall<T> = IncomingCall & {
  /** Answers without decoding the request; undefined: it has to be decoded. */
  handleEncoded?(call: CallContext): Promise<T> | undefined;
  decode(): Message;
  encode(answer: ResponseMessage): T;
};

/** The same of a stream. */
export type StreamCall<T> = IncomingCall & {
  /** The answers without messages; `check` holds a request that had to be decoded to its rules. */
  handleEncoded?(call: CallContext, check: (request: Message) => void): AsyncIterable<T | PushStream<T>>;
  /** The one request of a server stream, or the requests of a bidirectional one as they come. */
  open(): Message | AsyncIterable<Message>;
  encode(answer: ResponseMessage): T;
  /** Where the answers of a feed go at once; without it they come out of the stream like all others. */
  readonly sink?: Sink<T>;
};

/** A writable stream, as it is: what a feed pours into thousands of sinks passes through no closure of ours. */
export type Sink<T> = {
  /** Takes it in any case; false: there is no room for another one until "drain". */
  write(bytes: T): boolean;
  on(event: "drain", listener: () => void): unknown;
};

export type Pipeline = {
  /** What the hosts register: SessionService, health and reflection. */
  readonly routes: readonly Route[];
  /** For what a host waits for; one timer for all. */
  readonly deadlines: Deadlines;
  /** @throws CallFailure and nothing else. */
  unary<T>(route: Route, incoming: UnaryCall<T>): Promise<T>;
  /** @throws CallFailure and nothing else. */
  stream<T>(route: Route, incoming: StreamCall<T>): AsyncGenerator<T, void, void>;
  /** Ends all streams with UNAVAILABLE / SHUTTING_DOWN, and refuses new ones; unary calls go on. */
  endStreams(): void;
};

// The margin by which we answer before the client's own clock gives up, so that it learns that the store hangs.
const DEADLINE_MARGIN_MS = 50;
const DEADLINE_MARGIN_SHARE = 0.2;
const SHUTDOWN_RETRY_MS = 500;

export function createPipeline(options: PipelineOptions): Pipeline {
  const { implementation, authenticate, validate, requestTimeoutMs, slowReaderMs = 10_000, observe } = options;
  const deadlines = options.deadlines ?? createDeadlines();
  const log = createCallLog(options.logger, options.logSample ?? 100);
  const streams = new Set<ActiveCall>();
  let shuttingDown = false;

  const reflection = createReflection([SessionService, Health, ServerReflection, ServerReflectionAlpha]);
  const routes = [
    ...sessionRoutes(implementation, options.encodedHandlers ?? {}),
    ...openRoutes(Health, createHealth(options.readiness)),
    ...openRoutes(ServerReflection, reflection.v1),
    ...openRoutes(ServerReflectionAlpha, reflection.v1alpha),
  ];

  /** @throws SessionError CREDENTIAL_INVALID, SCOPE_MISSING. */
  function admit(route: Route, incoming: IncomingCall): Principal {
    if (route.scope === undefined) return ANONYMOUS.principal;
    const { principal, scopes } = authenticate(incoming);
    if (scopes.has(route.scope)) return principal;
    throw new SessionError("SCOPE_MISSING", `the API key lacks the scope ${route.scope}`);
  }

  function handlerOf<H extends UnaryHandler | StreamHandler>(route: Route): H {
    if (route.handler !== undefined) return route.handler as H;
    throw new SessionError("METHOD_NOT_IMPLEMENTED", `${route.name} is not implemented`);
  }

  function report(
    route: Route,
    startedMs: number,
    principal: Principal | undefined,
    failure: CallFailure | undefined,
  ): void {
    const call = { method: route.name, durationMs: performance.now() - startedMs, principal, failure };
    log(call);
    observe?.(call);
  }

  async function unary<T>(route: Route, incoming: UnaryCall<T>): Promise<T> {
    const startedMs = performance.now();
    let principal: Principal | undefined;
    let call: ActiveCall | undefined;
    try {
      principal = admit(route, incoming);
      const deadlineMs = Math.min(beforeClient(incoming.clientDeadlineMs, startedMs), startedMs + requestTimeoutMs);
      call = new ActiveCall({ principal, deadlineMs, deadlines, deadlineError: storeTimeout });
      const direct = incoming.handleEncoded?.(call);
      const answer = direct ? await call.runUntilAborted(direct) : incoming.encode(await handle(route, incoming, call));
      report(route, startedMs, principal, undefined);
      return answer;
    } catch (thrown) {
      const failure = toFailure(thrown);
      report(route, startedMs, principal, failure);
      throw failure;
    } finally {
      call?.end();
    }
  }

  function handle<T>(route: Route, incoming: UnaryCall<T>, call: ActiveCall): Promise<ResponseMessage> {
    const handler = handlerOf<UnaryHandler>(route);
    const request = incoming.decode();
    validate(route.method.input, request);
    // What is answered directly is soon over: there is nothing to interrupt.
    interruptOnCancel(call, incoming);
    return call.runUntilAborted(handler(request, call));
  }

  async function* stream<T>(route: Route, incoming: StreamCall<T>): AsyncGenerator<T, void, void> {
    const startedMs = performance.now();
    let principal: Principal | undefined;
    let call: ActiveCall | undefined;
    let answers: AsyncIterator<ResponseMessage | PushStream<ResponseMessage>> | undefined;
    let stopPouring: (() => void) | undefined;
    let finished = false;

    // Also called by an interruption, for a host that is stuck in a write to a client that is gone does not come back.
    function finish(failure: CallFailure | undefined): void {
      if (finished) return;
      finished = true;
      stopPouring?.();
      if (call !== undefined) streams.delete(call);
      call?.end();
      answers?.return?.().catch(() => undefined);
      report(route, startedMs, principal, failure);
    }

    let encode = (answer: ResponseMessage): T => incoming.encode(answer);

    /** Returns what ends the wait. */
    function waitForReader(): () => void {
      const wait = { deadlineMs: performance.now() + slowReaderMs, onDeadline: () => call?.abort(slowReader) };
      deadlines.add(wait);
      return () => deadlines.remove(wait);
    }

    /** Writes what comes until the feed ends. */
    function pour(feed: PushStream<ResponseMessage>, sink: Sink<T>): Promise<void> {
      return new Promise((resolve, reject) => {
        let open: Sink<T> | undefined = finished ? undefined : sink;
        let stopWaiting: (() => void) | undefined;
        stopPouring = () => (open = undefined);
        const resume = feed(
          (answer) => {
            const hasRoom = open !== undefined && open.write(encode(answer));
            if (!hasRoom) stopWaiting ??= waitForReader();
            return hasRoom;
          },
          (error) => {
            stopWaiting?.();
            if (error === undefined) resolve();
            else reject(error);
          },
        );
        sink.on("drain", () => {
          stopWaiting?.();
          stopWaiting = undefined;
          resume();
        });
      });
    }

    try {
      principal = admit(route, incoming);
      if (shuttingDown) throw shutDown();
      call = new ActiveCall({
        principal,
        deadlineMs: incoming.clientDeadlineMs,
        deadlines,
        deadlineError: deadlineExceeded,
        onInterrupt: (error) => finish(toFailure(error)),
      });
      streams.add(call);
      interruptOnCancel(call, incoming);
      const direct = incoming.handleEncoded?.(call, (request) => validate(route.method.input, request));
      if (direct !== undefined) encode = (answer) => answer as T;
      const steps =
        (direct as AsyncIterable<ResponseMessage | PushStream<ResponseMessage>>) ?? handleStream(route, incoming, call);
      answers = steps[Symbol.asyncIterator]();
      for (let source = answers; ;) {
        const step = await call.runUntilAborted(source.next());
        if (step.done === true) break;
        if (!isPushStream(step.value)) {
          const stopWaiting = waitForReader();
          yield encode(step.value);
          stopWaiting();
        } else if (incoming.sink !== undefined) {
          await call.runUntilAborted(pour(step.value, incoming.sink));
        } else {
          source = toAsyncIterable(step.value);
        }
      }
      finish(undefined);
    } catch (thrown) {
      const failure = toFailure(thrown);
      finish(failure);
      throw failure;
    } finally {
      finish(toFailure(cancelled()));
    }
  }

  function handleStream<T>(
    route: Route,
    incoming: StreamCall<T>,
    call: ActiveCall,
  ): AsyncIterable<ResponseMessage | PushStream<ResponseMessage>> {
    return handlerOf<StreamHandler>(route)(checked(route, incoming.open()), call);
  }

  function checked(route: Route, input: Message | AsyncIterable<Message>): Message | AsyncIterable<Message> {
    if (Symbol.asyncIterator in input) return eachChecked(route, input);
    validate(route.method.input, input);
    return input;
  }

  async function* eachChecked(route: Route, requests: AsyncIterable<Message>): AsyncIterable<Message> {
    for await (const request of requests) {
      validate(route.method.input, request);
      yield request;
    }
  }

  return {
    routes,
    deadlines,
    unary,
    stream,
    endStreams() {
      shuttingDown = true;
      for (const call of [...streams]) call.abort(shutDown);
    },
  };
}

function beforeClient(clientDeadlineMs: number, nowMs: number): number {
  const leftMs = clientDeadlineMs - nowMs;
  return clientDeadlineMs - Math.max(0, Math.min(DEADLINE_MARGIN_MS, leftMs * DEADLINE_MARGIN_SHARE));
}

function interruptOnCancel(call: ActiveCall, incoming: IncomingCall): void {
  incoming.onCancel(() => {
    // A client that gives up at its deadline says so by going away; its own clock may be a little early.
    call.abort(performance.now() >= incoming.clientDeadlineMs - 5 ? deadlineExceeded : cancelled);
  });
}

function storeTimeout(): SessionError {
  return new SessionError("STORE_TIMEOUT", "the store did not answer in time");
}

function deadlineExceeded(): SessionError {
  return new SessionError("DEADLINE_EXCEEDED", "the deadline has passed");
}

function cancelled(): SessionError {
  return new SessionError("CANCELLED", "the caller is gone");
}

function shutDown(): SessionError {
  return new SessionError("SHUTTING_DOWN", "this instance is shutting down", { retryAfterMs: SHUTDOWN_RETRY_MS });
}

function slowReader(): CallFailure {
  return new CallFailure(Code.ResourceExhausted, "the caller does not read what it is sent");
}
