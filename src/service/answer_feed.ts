// The answers to a stream of questions: in the order of the questions, each as soon as it is its turn, and all that are
// ready in one message.

import type { Feed } from "../domain/feed.ts";
import type { Question, Validation } from "./validator.ts";

/** One message: how its questions are answered, each on its own. */
export type Asked = { readonly questions: readonly Question[]; answer(question: Question): Promise<Validation> };

/** Questions of one stream that are worked on at once; no further message is read before there are fewer. */
const QUESTIONS_AT_ONCE = 1024;
/** What one message of answers holds at most, but for a single answer that is larger. */
const ANSWERS_PER_MESSAGE = 256;
const BYTES_PER_MESSAGE = 64 * 1024;

/** A question's place in the order: not answered yet, answered, or what went wrong. */
type Place = { state: "open" } | { state: "answered"; validation: Validation } | { state: "failed"; error: unknown };

/** @param encode One message of answers. */
export function answerFeed<T>(asked: AsyncIterable<Asked>, encode: (answers: Validation[]) => T): Feed<T> {
  return (send, end) => {
    const places: Place[] = [];
    let hasRoom = true;
    let allAsked = false;
    let deliveryDue = false;
    let readOn: (() => void) | undefined;

    async function readAll(): Promise<void> {
      for await (const { questions, answer } of asked) {
        for (const question of questions) settle(places, answer(question), deliverSoon);
        if (places.length >= QUESTIONS_AT_ONCE) await new Promise<void>((resolve) => (readOn = resolve));
      }
    }

    // Once all that came with the same reply of the store has been answered.
    function deliverSoon(): void {
      if (deliveryDue) return;
      deliveryDue = true;
      process.nextTick(deliver);
    }

    function deliver(): void {
      deliveryDue = false;
      while (hasRoom && places[0]?.state === "answered") hasRoom = send(encode(takeAnswers(places)));
      const [first] = places;
      if (first?.state === "failed") return end(first.error);
      if (first === undefined && allAsked) return end();
      if (readOn !== undefined && places.length < QUESTIONS_AT_ONCE) {
        readOn();
        readOn = undefined;
      }
    }

    readAll()
      .catch((error: unknown) => void places.push({ state: "failed", error }))
      .finally(() => {
        allAsked = true;
        deliverSoon();
      });
    return () => {
      hasRoom = true;
      deliver();
    };
  };
}

/** Gives an answer the next place; `onFirst` is called when it is there and nothing before it is waited for. */
function settle(places: Place[], answering: Promise<Validation>, onFirst: () => void): void {
  const place = { state: "open" } as Place;
  places.push(place);
  const put = (settled: Place) => {
    Object.assign(place, settled);
    if (places[0] === place) onFirst();
  };
  answering.then(
    (validation) => put({ state: "answered", validation }),
    (error: unknown) => put({ state: "failed", error }),
  );
}

/** As many of the first answers as make one message. */
function takeAnswers(places: Place[]): Validation[] {
  const answers: Validation[] = [];
  for (let bytes = 0; answers.length < ANSWERS_PER_MESSAGE && bytes < BYTES_PER_MESSAGE;) {
    const place = places[answers.length];
    if (place?.state !== "answered") break;
    answers.push(place.validation);
    bytes += place.validation?.record.byteLength ?? 0;
  }
  places.splice(0, answers.length);
  return answers;
}
