// The answers to a stream of questions: in the order of the questions, each as soon as it is its turn, and all that are
// ready in one message.

import type { PushStream } from "../../lib/push_stream.ts";
import type { ValidationResult } from "./validator.ts";

/** Questions of one stream that are worked on at once; no further message is read before there are fewer. */
const QUESTIONS_AT_ONCE = 1024;
/** What one message of answers holds at most, but for the answers to one message that are more. */
const ANSWERS_PER_MESSAGE = 256;
const BYTES_PER_MESSAGE = 64 * 1024;

/** A message's place in the order: its answers, or what went wrong, once that is known. */
type PendingBatch = {
  readonly questions: number;
  answers?: readonly ValidationResult[];
  failure?: { readonly error: unknown };
};

/** One message: how many questions it has, and their answers. */
export type SubmittedBatch = { readonly questions: number; readonly answers: Promise<readonly ValidationResult[]> };

/**
 * @param requests The messages as they come.
 * @param ask May throw: then the stream ends, after the answers to what came before.
 * @param encode One message of answers.
 */
export function orderedResponses<Request, T>(
  requests: PushStream<Request>,
  ask: (request: Request) => SubmittedBatch,
  encode: (answers: ValidationResult[]) => T,
): PushStream<T> {
  return (send, end) => {
    const places: PendingBatch[] = [];
    let questions = 0;
    let hasRoom = true;
    let allAsked = false;
    let deliveryDue = false;
    let reading = true;

    function take(request: Request): boolean {
      if (allAsked) return false;
      let asked: SubmittedBatch;
      try {
        asked = ask(request);
      } catch (error) {
        endOfRequests(error);
        return false;
      }
      const place: PendingBatch = { questions: asked.questions };
      places.push(place);
      questions += place.questions;
      asked.answers.then(
        (answers) => settle(place, { answers }),
        (error: unknown) => settle(place, { failure: { error } }),
      );
      reading = questions < QUESTIONS_AT_ONCE;
      return reading;
    }

    function endOfRequests(error?: unknown): void {
      if (allAsked) return;
      allAsked = true;
      if (error !== undefined) places.push({ questions: 0, failure: { error } });
      deliverSoon();
    }

    function settle(place: PendingBatch, outcome: Pick<PendingBatch, "answers" | "failure">): void {
      Object.assign(place, outcome);
      if (places[0] === place) deliverSoon();
    }

    // Once all that came with the same reply of the store has been answered.
    function deliverSoon(): void {
      if (deliveryDue) return;
      deliveryDue = true;
      process.nextTick(deliver);
    }

    function deliver(): void {
      deliveryDue = false;
      while (hasRoom && places[0]?.answers !== undefined) {
        const answers = takeAnswers(places);
        questions -= answers.length;
        hasRoom = send(encode(answers));
      }
      const [first] = places;
      if (first?.failure !== undefined) end(first.failure.error);
      else if (first === undefined && allAsked) end();
      else if (!reading && questions < QUESTIONS_AT_ONCE) {
        reading = true;
        readOn();
      }
    }

    const readOn = requests(take, endOfRequests);
    return () => {
      hasRoom = true;
      deliver();
    };
  };
}

/** The answers to as many of the first messages as make one message. */
function takeAnswers(places: PendingBatch[]): ValidationResult[] {
  const taken: ValidationResult[] = [];
  let messages = 0;
  for (let bytes = 0; taken.length < ANSWERS_PER_MESSAGE && bytes < BYTES_PER_MESSAGE; messages++) {
    const answers = places[messages]?.answers;
    if (answers === undefined) break;
    for (const answer of answers) {
      taken.push(answer);
      bytes += answer?.record.byteLength ?? 0;
    }
  }
  places.splice(0, messages);
  return taken;
}
