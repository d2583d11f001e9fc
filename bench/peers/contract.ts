// What the HTTP peers have in common: the content of a session, and how the bench starts and stops them.

import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

export const REDIS_URL = process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379";
export const PORT = Number(process.env["PORT"] ?? 0);
export const HOST = "127.0.0.1";
export const IP_ADDRESS = "203.0.113.7";
/** 120 bytes, as long as the user agents of today's browsers. */
export const USER_AGENT =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.3537.100";
/** The lifetime of the sessions of all peers, from the login or the last access on. */
export const MAX_AGE_SECONDS = 24 * 60 * 60;
/** Signs the cookies. It is fixed, since the bench has nothing to protect. */
export const COOKIE_SECRET = "the peers of a benchmark sign their cookies with this";

/** Prints where the peer listens, and ends the process on SIGTERM. */
export function announce(server: Server): void {
  process.once("SIGTERM", () => process.exit(0));
  console.log(`listening ${HOST}:${(server.address() as AddressInfo).port}`);
}
