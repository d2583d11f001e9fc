// Fastify with @fastify/session, and connect-redis as its store.

import { randomUUID } from "node:crypto";
import fastifyCookie from "@fastify/cookie";
import fastifySession from "@fastify/session";
import { RedisStore } from "connect-redis";
import fastify from "fastify";
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

const app = fastify();
app.register(fastifyCookie);
app.register(fastifySession, {
  store: new RedisStore({ client }),
  secret: COOKIE_SECRET,
  saveUninitialized: false,
  // Otherwise no cookie is sent without TLS.
  cookie: { maxAge: MAX_AGE_SECONDS * 1000, secure: false },
});

app.post("/login", async (request) => {
  const { data } = request.body;
  Object.assign(request.session, { userId: randomUUID(), ipAddress: IP_ADDRESS, userAgent: USER_AGENT, data });
  return {};
});

app.get("/validate", async (request, reply) => {
  const { userId, ipAddress, userAgent, data } = request.session;
  if (userId === undefined) return reply.code(401).send({});
  return { userId, ipAddress, userAgent, data };
});

await app.listen({ port: PORT, host: HOST });
announce(app.server);
