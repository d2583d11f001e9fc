// better-auth on node:http. Its own package stores the sessions in Redis.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { redisStorage } from "@better-auth/redis-storage";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { Redis } from "ioredis";
import {
  announce,
  COOKIE_SECRET,
  HOST,
  IP_ADDRESS,
  MAX_AGE_SECONDS,
  PORT,
  REDIS_URL,
  USER_AGENT,
} from "../contract.ts";

const auth = betterAuth({
  baseURL: `http://${HOST}`,
  secret: COOKIE_SECRET,
  // The database has the users only. With a secondary storage, the sessions are nowhere else.
  database: memoryAdapter({ user: [], account: [], session: [], verification: [] }),
  secondaryStorage: redisStorage({ client: new Redis(REDIS_URL) }),
  emailAndPassword: { enabled: true },
  session: {
    expiresIn: MAX_AGE_SECONDS,
    // The shortest time between two accesses that slide the timeout.
    updateAge: 60 * 60,
    additionalFields: { data: { type: "string", required: false } },
  },
  databaseHooks: {
    session: {
      create: { before: async (session, context) => ({ data: { ...session, data: context.headers.get("x-data") } }) },
    },
  },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { disabled: true },
});
const handler = toNodeHandler(auth);

const server = createServer((request, response) => {
  if (request.url.startsWith("/api/auth/")) void handler(request, response);
  else if (request.url === "/login") void login(request, response);
  else void validate(request, response);
});
server.listen(PORT, HOST, () => announce(server));

async function login(request, response) {
  const { data } = await json(request);
  const name = randomUUID();
  const { headers } = await auth.api.signUpEmail({
    body: { name, email: `${name}@example.com`, password: name },
    headers: new Headers({ "x-forwarded-for": IP_ADDRESS, "user-agent": USER_AGENT, "x-data": data }),
    returnHeaders: true,
  });
  response.writeHead(200, { "set-cookie": headers.getSetCookie() }).end("{}");
}

/** Validates as its documentation recommends for a route that needs a session. */
async function validate(request, response) {
  const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
  response.statusCode = session === null ? 401 : 200;
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(session));
}
