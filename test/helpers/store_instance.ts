// An instance of the service in this process, on any store, with its log and its readiness.

import { Writable } from "node:stream";
import type { TestContext } from "node:test";
import { loadConfig } from "../../src/config/config.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { startServer } from "../../src/server.ts";
import { createAuthorityClient } from "./grpc_client.ts";

export type LogLine = {
  readonly msg: string;
  readonly fault?: string;
  readonly why?: string;
  readonly sessions?: number;
};

export type StoreInstance = Awaited<ReturnType<typeof startInstance>>;

/** Starts an instance that stops with the test. Instances of one store need the same `dataDir`, which has the token keys. */
export async function startInstance(t: TestContext, storeUrl: string, dataDir: string) {
  const lines: LogLine[] = [];
  const log = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  const config = loadConfig({
    ...{ SA_STORE_URL: storeUrl, SA_DATA_DIR: dataDir, SA_LOG_LEVEL: "info" },
    ...{ SA_GRPC_LISTEN: "127.0.0.1:0", SA_HTTP_LISTEN: "127.0.0.1:0" },
  });
  const server = await startServer(config, createLogger(config, log));
  const client = createAuthorityClient(server.addresses.grpc!);
  t.after(async () => {
    client.close();
    await server.close();
  });
  const { grpc, http } = server.addresses as { grpc: string; http: string };
  return {
    client,
    lines,
    grpc,
    http,
    /** Returns the reasons of /readyz, none if the instance is ready. */
    async readiness(): Promise<string[]> {
      const response = await fetch(`http://${http}/readyz`);
      return ((await response.json()) as { reasons: string[] }).reasons;
    },
  };
}
