// The tools of the canary test: calls that are refused, the store's files, and a search for a secret in every encoding.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fromJson, toBinary, type DescMethod, type JsonValue } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";

export type RefusedCalls = ReturnType<typeof createRefusedCalls>;

/** Makes calls that may fail, on both hosts. Everything that a failed call returns is added to `refusals`. */
export function createRefusedCalls(addresses: { grpc: string; http: string }, cookie: string, refusals: string[]) {
  const grpc = new Client(addresses.grpc, credentials.createInsecure());

  /** Calls over HTTP. The body may be malformed. */
  async function post(method: DescMethod, body: string, authorization: string): Promise<void> {
    const headers = { "content-type": "application/json", cookie, authorization };
    const response = await fetch(`http://${addresses.http}${pathOf(method)}`, { method: "POST", headers, body });
    const text = await response.text();
    // A streaming method is not served as plain JSON: it is refused without a body.
    if (response.ok || text === "") return;
    const { details = [] } = JSON.parse(text) as { details?: { value: string }[] };
    refusals.push(text, JSON.stringify([...response.headers]));
    refusals.push(...details.map(({ value }) => asText(Buffer.from(value, "base64"))));
  }

  /** Calls a method of any kind. Of a stream it waits for the first response only. */
  async function call(method: DescMethod, request: Record<string, JsonValue>, authorization: string): Promise<void> {
    if (method.methodKind === "unary") await post(method, JSON.stringify(request), authorization);
    const metadata = new Metadata();
    metadata.set("authorization", authorization);
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, request)));
    const stream = grpc.makeBidiStreamRequest(
      pathOf(method),
      (sent: Buffer) => sent,
      (response) => response,
      metadata,
    );
    stream.on("data", () => stream.cancel());
    stream.on("error", (error: ServiceError) => {
      refusals.push(error.details, ...Object.values(error.metadata.getMap()).map(asText));
    });
    stream.end(bytes);
    await new Promise((resolve) => stream.once("status", resolve));
  }

  return { post, call, close: () => grpc.close() };
}

const asText = (value: string | Buffer) => (typeof value === "string" ? value : value.toString("latin1"));
const pathOf = (method: DescMethod) => `/${method.parent.typeName}/${method.name}`;

/** Returns the contents of a store's files, which must not be compressed. */
export async function storedBytes(dataDir: string): Promise<Record<string, Buffer>> {
  const files = (await readdir(join(dataDir, "appendonlydir"))).filter((name) => name.endsWith(".aof"));
  const logs = await Promise.all(files.map((name) => readFile(join(dataDir, "appendonlydir", name))));
  return { "the RDB file": await readFile(join(dataDir, "dump.rdb")), "the AOF files": Buffer.concat(logs) };
}

/** Asserts that `bytes` holds the secret neither as it is, nor in hexadecimal, nor inside a base64 text. */
export function assertAbsent(bytes: Buffer, secret: Buffer, what: string): void {
  const spellings = [secret, secret.toString("hex"), secret.toString("hex").toUpperCase()];
  for (const shift of [0, 1, 2]) {
    for (const encoding of ["base64", "base64url"] as const) {
      const text = Buffer.concat([Buffer.alloc(shift), secret])
        .toString(encoding)
        .replaceAll("=", "");
      // The first and last characters share bits with the bytes around the secret.
      spellings.push(text.slice(Math.ceil((shift * 8) / 6), -1));
    }
  }
  for (const spelling of spellings) assert.ok(!bytes.includes(spelling), `found ${what}`);
}
