// Runs the blocks of the README and of docs/ that are marked ```sh run, page by page, against a real server.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const skip = redisServerMissing() || (spawnSync("grpcurl", ["--version"]).error ? "grpcurl is not installed" : false);

/** What the output of each page must contain. Besides, no command may fail. */
const EXPECTED: Record<string, RegExp[]> = {
  "README.md": [/"token": "sat1_/, /VERDICT_VALID/, /"cart": \[/, /"deletedCount": 1/, /VERDICT_INVALID/],
  "docs/anonymous-sessions.md": [/"userId": "noor"[^]*"lang": "de"[^]*VERDICT_INVALID/],
  "docs/choosing.md": [/VERDICT_VALID/, /"step": "payment"[^]*"step": "payment"/, /"deletedCount"/],
  "docs/simple-sessions.md": [/VERDICT_VALID/, /"lang": "en"/, /"deletedCount": 1/],
  "docs/hash-sessions.md": [/"step": "payment"/, /"value": "1"/],
  "docs/clients.md": [/rpc CreateSession/, /"userId": ?"eve"/, /invalid_argument/, /"openapi": "3\.1\.0"/],
  "docs/secure-sessions.md": [/VERDICT_VALID/, /VERDICT_INVALID/, /"deleted": true/, /retired/],
  "docs/bulk-validation.md": [/"bulk-alice"[^]*"bulk-bob"[^]*VERDICT_INVALID[^]*"bulk-alice"[^]*"bulk-bob"/],
  "docs/device-sessions.md": [/DEVICE_TYPE_MOBILE/, /"deletedCount": 1/],
  "docs/watch.md": [/"deleted": true/, /"opened"/, /INVALIDATION_REASON_REVOKED/, /"on-call"/],
  "docs/regeneration.md": [/VERDICT_INVALID[^]*VERDICT_VALID[^]*"book"/],
  "docs/session-updates.md": [/"203.0.113.9"/, /"stepUpRequired": true[^]*"level": 2/, /"time": "20/],
  "docs/session-limits.md": [/SESSION_LIMIT_REACHED/, /REVOKED_SINCE_LOGIN/],
  "docs/ip-binding.md": [/"ipMismatch": true/, /IP_MISMATCH/],
  "docs/admin.md": [/"sessionCount"/, /"endedCount": "3"[^]*"endedCount": "1"[^]*"endedCount": "2"/, /shop is closed/],
  "docs/audit.md": [/USER_REVOKED/, /SESSION_STATE_ENDED/],
};

let authorities: Authorities;
let scratch: string;

before(async () => {
  if (skip) return;
  authorities = await startAuthorities();
  scratch = mkdtempSync(join(tmpdir(), "sa-docs-"));
});
after(async () => {
  if (skip) return;
  await authorities.close();
  rmSync(scratch, { recursive: true });
});

const pages = ["README.md", ...globSync("docs/*.md", { cwd: ROOT })];
const blocksOf = (page: string) =>
  [...readFileSync(join(ROOT, page), "utf8").matchAll(/^```sh run\n(.*?)^```$/gms)].map((match) => match[1]!);

/** Returns the page's commands as one script that calls this test's server. A line that begins with ! must fail. */
function scriptOf(page: string): string {
  const commands = blocksOf(page)
    .join("\n")
    .replace(/^! (.*)$/gm, "if $1; then echo 'a command succeeded that the page says fails' >&2; exit 1; fi")
    .replaceAll("localhost:50051", authorities.servers[0]!.addresses.grpc!)
    .replaceAll("localhost:8080", authorities.servers[0]!.addresses.http!)
    .replaceAll("/tmp/", `${scratch}/`);
  return `set -euo pipefail\n${commands}`;
}

describe("the commands of a page work, and print what it says:", { skip, concurrency: 2 }, () => {
  for (const page of pages.filter((name) => blocksOf(name).length > 0)) {
    test(page, async () => {
      const run = promisify(execFile)("bash", ["-c", scriptOf(page)], { cwd: ROOT, timeout: 60_000 });
      const { stdout, stderr } = await run.catch((error: { stdout: string; stderr: string; message: string }) => {
        throw new Error(`${error.message}\n${error.stdout}\n${error.stderr}`);
      });
      for (const pattern of EXPECTED[page] ?? []) assert.match(stdout + stderr, pattern);
    });
  }

  test("every page with commands has an expected output in this file", () => {
    const unexpected = pages.filter((page) => blocksOf(page).length > 0 && !EXPECTED[page]);
    assert.deepEqual(
      unexpected.filter((page) => page !== "docs/operations.md" && page !== "docs/configuration.md"),
      [],
    );
  });
});
