// Validates a token, from memory when that is safe, and logs when a session ends or changes.

import { createSessionClient } from "../../src/client/index.ts";

const [address = "localhost:50051", token = ""] = process.argv.slice(2);
const client = createSessionClient({ address });

client.onInvalidated(({ sessionId, userId }) => console.log("ended or changed:", sessionId, "of", userId));

try {
  const session = await client.validateToken(token);
  console.log(session === undefined ? "not logged in" : `logged in as ${session.userId}`);
} catch (error) {
  // Whether the token is valid could not be found out: treat the caller as not logged in.
  console.log(`try again later: ${String(error)}`);
}
console.log(client.statistics());
client.close();
