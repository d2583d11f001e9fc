// A server stream or a bidirectional stream: authenticates it, runs the handler, sends responses no faster than the caller
// reads them, then reports how it ended.

import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { isSamePrincipal, type Principal } from "../domain/call.ts";
import { cancelled, deadlineExceeded, SessionError } from "../domain/errors.ts";
import { isPushStream, toAsyncIterable, type PushStream } from "../lib/push_stream.ts";
import { startTimeout } from "../lib/timeout.ts";
import { ActiveCall } from "./active_call.ts";
import { abortOnCancel, admit, handlerOf, reportFinished, shuttingDown, type CallHandling } from "./call_handling.ts";
import { CallFailure, toFailure } from "./errors.ts";
import type { IncomingStreamingCall, ResponseSink } from "./incoming_call.ts";
import type { ResponseMessage, Route, StreamHandler } from "./routes.ts";

/** The streams of an instance that are open, so that a drain or a change of the API keys can end them. */
export type OpenStreams = {
  readonly calls: Set<Pick<StreamingCall<unknown>, "abort" | "recheckCredential">>;
  /** Set when the drain begins: new streams are refused. */
  isShuttingDown: boolean;
};

/** What a handler yields; encoded handlers yield bytes, which stand for `T`. */
type Step = ResponseMessage | PushStream<ResponseMessage>;

export class StreamingCall<T> {
  readonly #handling: CallHandling;
  readonly #openStreams: OpenStreams;
  readonly #route: Route;
  readonly #incoming: IncomingStreamingCall<T>;
  readonly #startedMs = performance.now();
  #call: ActiveCall | undefined;
  #steps: AsyncIterator<Step> | undefined;
  /** The handler is an encoded one: its responses are sent as they are. */
  #isEncoded = false;
  #slowReaderTimer: NodeJS.Timeout | undefined;
  #hasFinished = false;

  constructor(handling: CallHandling, openStreams: OpenStreams, route: Route, incoming: IncomingStreamingCall<T>) {
    this.#handling = handling;
    this.#openStreams = openStreams;
    this.#route = route;
    this.#incoming = incoming;
  }

  /** Runs the call; yields the responses that do not go to the sink. @throws CallFailure and nothing else. */
  async *responses(): AsyncGenerator<T, void, void> {
    try {
      const call = this.#start();
      const { sink } = this.#incoming;
      for (let source = (this.#steps = this.#handle(call)[Symbol.asyncIterator]()); ;) {
        const step = await call.runUntilAborted(source.next());
        if (step.done === true) break;
        if (!isPushStream(step.value)) {
          this.#startWaitingForReader();
          yield this.#encode(step.value);
          this.#stopWaitingForReader();
        } else if (sink !== undefined) {
          await call.runUntilAborted(this.#writeAll(step.value, sink));
        } else {
          source = toAsyncIterable(step.value);
        }
      }
      this.#finish(undefined);
    } catch (thrown) {
      const failure = toFailure(thrown);
      this.#finish(failure);
      throw failure;
    } finally {
      // The host has stopped iterating, since its client is gone.
      if (!this.#hasFinished) this.#finish(toFailure(cancelled()));
    }
  }

  /** Ends the call from outside. */
  abort(makeReason: () => Error): void {
    this.#call?.abort(makeReason);
  }

  /** Ends the call if its credential would no longer be admitted as the same principal. */
  recheckCredential(): void {
    const { principal } = this.#call!;
    let current: Principal | undefined;
    try {
      current = admit(this.#handling, this.#route, this.#incoming);
    } catch {
      // It ends for the same reason as if the credential stood for another principal.
    }
    if (current === undefined || !isSamePrincipal(principal, current)) this.abort(credentialChanged);
  }

  #start(): ActiveCall {
    const call = new ActiveCall({
      principal: admit(this.#handling, this.#route, this.#incoming),
      deadlineMs: this.#incoming.clientDeadlineMs,
      deadlineError: deadlineExceeded,
      // A host that is blocked on a client that has gone never asks for the next response, so `finally` would not run.
      onAbort: (reason) => this.#finish(toFailure(reason)),
    });
    this.#call = call;
    if (this.#openStreams.isShuttingDown) throw shuttingDown();
    this.#openStreams.calls.add(this);
    abortOnCancel(call, this.#incoming);
    return call;
  }

  #handle(call: ActiveCall): AsyncIterable<Step> {
    const validate = (request: Message) => this.#handling.validate(this.#route.method.input, request);
    const encoded = this.#incoming.handleEncoded?.(call, validate);
    if (encoded !== undefined) {
      this.#isEncoded = true;
      return encoded as AsyncIterable<Step>;
    }
    const handler = handlerOf<StreamHandler>(this.#route);
    const input = this.#incoming.decode();
    if (Symbol.asyncIterator in input) return handler(validateEach(input, validate), call);
    validate(input);
    return handler(input, call);
  }

  #encode(response: ResponseMessage): T {
    return this.#isEncoded ? (response as T) : this.#incoming.encode(response);
  }

  /** Resolves when the push stream has ended; what it writes after the call has finished is dropped. */
  #writeAll(stream: PushStream<ResponseMessage>, sink: ResponseSink<T>): Promise<void> {
    return new Promise((resolve, reject) => {
      const drain = stream(
        (response) => this.#write(response, sink),
        (error) => {
          this.#stopWaitingForReader();
          if (error === undefined) resolve();
          else reject(error);
        },
      );
      sink.on("drain", () => {
        this.#stopWaitingForReader();
        drain();
      });
    });
  }

  #write(response: ResponseMessage, sink: ResponseSink<T>): boolean {
    if (this.#hasFinished) return false;
    const hasRoom = sink.write(this.#encode(response));
    if (!hasRoom && this.#slowReaderTimer === undefined) this.#startWaitingForReader();
    return hasRoom;
  }

  #startWaitingForReader(): void {
    const deadlineMs = performance.now() + this.#handling.slowReaderMs;
    this.#slowReaderTimer = startTimeout(deadlineMs, () => this.#call?.abort(slowReader));
  }

  #stopWaitingForReader(): void {
    clearTimeout(this.#slowReaderTimer);
    this.#slowReaderTimer = undefined;
  }

  #finish(failure: CallFailure | undefined): void {
    if (this.#hasFinished) return;
    this.#hasFinished = true;
    this.#stopWaitingForReader();
    this.#openStreams.calls.delete(this);
    this.#call?.end();
    this.#steps?.return?.().catch(() => undefined);
    reportFinished(this.#handling, this.#route, this.#startedMs, this.#call?.principal, failure);
  }
}

async function* validateEach(
  requests: AsyncIterable<Message>,
  validate: (request: Message) => void,
): AsyncIterable<Message> {
  for await (const request of requests) {
    validate(request);
    yield request;
  }
}

function credentialChanged(): SessionError {
  return new SessionError("CREDENTIAL_INVALID", "the API key of this stream was removed or changed");
}

function slowReader(): CallFailure {
  return new CallFailure(Code.ResourceExhausted, "the caller does not read what it is sent");
}
