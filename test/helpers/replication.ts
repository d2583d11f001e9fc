// What a store says of its replication.

import type { RedisServer } from "./redis_server.ts";

/** A node that is being demoted closes all its connections. */
const replicationOf = (store: RedisServer) => store.command("INFO", "replication").catch(() => "");

export const isInSync = async (replica: RedisServer) =>
  (await replicationOf(replica)).includes("master_link_status:up");
export const isMaster = async (store: RedisServer) => (await replicationOf(store)).includes("role:master");
export const isReplica = async (store: RedisServer) => (await replicationOf(store)).includes("role:slave");
