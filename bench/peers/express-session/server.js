// Express with express-session and connect-redis, set up as their documentation recommends.

import { randomUUID } from "node:crypto";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";
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

const client = createClient({ url: REDIS_URL });
await client.connect();

const app = express();
// Both are off in the peer's favour: a validation needs neither.
app.disable("x-powered-by");
app.disable("etag");
app.use(
  session({
    store: new RedisStore({ client }),
    secret: COOKIE_SECRET,
    resave: false,
    saveUninitialized: false,
    rolling: true,
    cookie: { maxAge: MAX_AGE_SECONDS * 1000 },
  }),
);

app.post("/login", express.json(), (request, response) => {
  const { data } = request.body;
  Object.assign(request.session, { userId: randomUUID(), ipAddress: IP_ADDRESS, userAgent: USER_AGENT, data });
  response.json({});
});

app.get("/validate", (request, response) => {
  const { userId, ipAddress, userAgent, data } = request.session;
  if (userId === undefined) response.status(401).json({});
  else response.json({ userId, ipAddress, userAgent, data });
});

const server = app.listen(PORT, HOST, () => announce(server));
