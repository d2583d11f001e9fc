// Asks whether a token is good, from memory where that is safe, and hears of the session's end.

import { createSessionClient } from "../../src/client/index.ts";

const [address = "localhost:50051", token = ""] = process.argv.slice(2);
const client = createSessionClient({ address });

client.onInvalidated(({ sessionId, userId }) => console.log("ended or changed:", sessionId, "of", userId));

try {
  const session = await client.validateToken(token);
  console.log(session === undefined ? "not logged in" : `logged in as ${session.userId}`);
} catch (error) {
  // The service could not tell: fail closed.
  console.log(`try again later: ${String(error)}`);
}
console.log(client.statistics());
client.close();
