// The responses to a stream of validation requests: in the order of the requests, each as soon as all before it are written.
// Results that are ready at the same time are joined into one response.

import type { PushStream } from "../../lib/push_stream.ts";
import type { ValidationResult } from "./validator.ts";

/** The most entries of one stream that are evaluated at once; while there are more, no further request is read. */
const MAX_PENDING_ENTRIES = 1024;
/** Above these, a response is not joined with the results of another request. */
const RESULTS_PER_RESPONSE = 256;
const BYTES_PER_RESPONSE = 64 * 1024;

/** A request of the stream: the number of its entries, and their results in the same order. */
export type SubmittedBatch = { readonly entryCount: number; readonly results: Promise<readonly ValidationResult[]> };

/** A request whose response is not written yet. Has results or a failure once it is settled. */
type PendingBatch = {
  readonly entryCount: number;
  results?: readonly ValidationResult[];
  failure?: { readonly error: unknown };
};

/**
 * Returns the responses to a stream of requests.
 *
 * @param submit Begins to evaluate a request. If it throws, the stream ends with that error after the responses before it.
 * @param encode Makes one response of the results of one or more requests.
 */
export function orderedResponses<Request, Response>(
  requests: PushStream<Request>,
  submit: (request: Request) => SubmittedBatch,
  encode: (results: ValidationResult[]) => Response,
): PushStream<Response> {
  return (write, end) => new OrderedResponses(submit, (results) => write(encode(results)), end).start(requests);
}

/** The state of one stream. */
class OrderedResponses<Request> {
  readonly #submit: (request: Request) => SubmittedBatch;
  /** Returns false if nothing more may be written until the reader drains. */
  readonly #write: (results: ValidationResult[]) => boolean;
  readonly #end: (error?: unknown) => void;
  /** In the order of their requests. */
  readonly #batches: PendingBatch[] = [];
  #pendingEntries = 0;
  #writable = true;
  #requestsEnded = false;
  #requestsPaused = false;
  #resumeRequests: () => void = () => undefined;
  #flushScheduled = false;

  constructor(
    submit: (request: Request) => SubmittedBatch,
    write: (results: ValidationResult[]) => boolean,
    end: (error?: unknown) => void,
  ) {
    this.#submit = submit;
    this.#write = write;
    this.#end = end;
  }

  /** Starts to read requests. Returns the function to call when the reader of the responses has drained. */
  start(requests: PushStream<Request>): () => void {
    this.#resumeRequests = requests(
      (request) => this.#accept(request),
      (error) => this.#endRequests(error),
    );
    return () => {
      this.#writable = true;
      this.#flush();
    };
  }

  /** Returns false if no further request may be sent until they are resumed. */
  #accept(request: Request): boolean {
    if (this.#requestsEnded) return false;
    let submitted: SubmittedBatch;
    try {
      submitted = this.#submit(request);
    } catch (error) {
      this.#endRequests(error);
      return false;
    }
    const batch: PendingBatch = { entryCount: submitted.entryCount };
    this.#batches.push(batch);
    this.#pendingEntries += batch.entryCount;
    submitted.results.then(
      (results) => this.#settle(batch, { results }),
      (error: unknown) => this.#settle(batch, { failure: { error } }),
    );
    this.#requestsPaused = this.#pendingEntries >= MAX_PENDING_ENTRIES;
    return !this.#requestsPaused;
  }

  #endRequests(error?: unknown): void {
    if (this.#requestsEnded) return;
    this.#requestsEnded = true;
    if (error !== undefined) this.#batches.push({ entryCount: 0, failure: { error } });
    this.#scheduleFlush();
  }

  #settle(batch: PendingBatch, outcome: Pick<PendingBatch, "results" | "failure">): void {
    Object.assign(batch, outcome);
    if (this.#batches[0] === batch) this.#scheduleFlush();
  }

  /** Flushes after every batch that the same reply of the store settles, so that their results share a response. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(() => this.#flush());
  }

  #flush(): void {
    this.#flushScheduled = false;
    while (this.#writable && this.#batches[0]?.results !== undefined) {
      const results = takeResults(this.#batches);
      this.#pendingEntries -= results.length;
      this.#writable = this.#write(results);
    }
    const [first] = this.#batches;
    if (first?.failure !== undefined) this.#end(first.failure.error);
    else if (first === undefined && this.#requestsEnded) this.#end();
    else if (this.#requestsPaused && this.#pendingEntries < MAX_PENDING_ENTRIES) {
      this.#requestsPaused = false;
      this.#resumeRequests();
    }
  }
}

/** Removes as many of the first settled batches as make up one response, and returns their results. */
function takeResults(batches: PendingBatch[]): ValidationResult[] {
  const taken: ValidationResult[] = [];
  let count = 0;
  for (let bytes = 0; taken.length < RESULTS_PER_RESPONSE && bytes < BYTES_PER_RESPONSE; count++) {
    const results = batches[count]?.results;
    if (results === undefined) break;
    for (const result of results) {
      taken.push(result);
      bytes += result?.record.byteLength ?? 0;
    }
  }
  batches.splice(0, count);
  return taken;
}
