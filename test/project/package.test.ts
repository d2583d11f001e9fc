// The published package can be packed, installed, imported from JavaScript and type-checked, and its example works.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const EXAMPLE = readFileSync(join(ROOT, "examples/client/quick.ts"), "utf8");
const PUBLISHED_EXAMPLE = EXAMPLE.replace("../../src/client/index.ts", "session-authority/client");
const skip = redisServerMissing();
const run = promisify(execFile);

let authorities: Authorities;
let project: string;

before(async () => {
  project = mkdtempSync(join(tmpdir(), "sa-package-"));
  await installInto(project);
  if (!skip) authorities = await startAuthorities();
});
after(async () => {
  await authorities?.close();
  rmSync(project, { recursive: true });
});

/** Installs the packed package as npm would, except that its dependencies are links to ours and need no network. */
async function installInto(folder: string): Promise<void> {
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT });
  const tarball = /"filename": "([^"]+)"/.exec(stdout)?.[1];
  const installed = join(folder, "node_modules/session-authority");
  mkdirSync(installed, { recursive: true });
  await run("tar", ["-xzf", join(folder, tarball!), "-C", installed, "--strip-components=1"]);
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  for (const name of [...Object.keys(dependencies), "@types/node"]) {
    const link = join(folder, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(ROOT, "node_modules", name), link);
  }
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
}

describe("the package", () => {
  test("plain JavaScript validates a token with the package", { skip }, async () => {
    const { token } = await authorities.clients[0]!.createSecureSession({ userId: "pat" });
    writeFileSync(
      join(project, "use.js"),
      `import { createSessionClient } from "session-authority/client";
       const client = createSessionClient({ address: process.argv[2] });
       const session = await client.validateToken(process.argv[3]);
       console.log(session.userId, await client.validateToken("nonsense"));
       client.close();`,
    );
    const args = ["use.js", authorities.servers[0]!.addresses.grpc!, token];
    const { stdout, stderr } = await run("node", args, { cwd: project });
    assert.deepEqual([stdout, stderr], ["pat undefined\n", ""]);
  });

  test("TypeScript finds its types and refuses wrong ones", async () => {
    const options = "--noEmit --strict --module nodenext --target es2024 --types node".split(" ");
    const check = (text: string) => {
      writeFileSync(
        join(project, "use.ts"),
        `import { createSessionClient, type Session } from "session-authority/client";
         const client = createSessionClient({ address: "localhost:1", cache: { maxEntries: 5 } });
         ${text}`,
      );
      return run(join(ROOT, "node_modules/.bin/tsc"), [...options, "use.ts"], { cwd: project });
    };
    await check("export const found: Promise<Session | undefined> = client.validateToken('t');");
    await assert.rejects(check("export const found: Session = await client.validateToken('t');"), /use\.ts/);
    await assert.rejects(check("client.statistics().hits = 'many';"), /use\.ts/);
  });

  test("only the client can be imported, and only its files are packed", async () => {
    writeFileSync(join(project, "other.js"), `import "session-authority/src/server.ts";`);
    await assert.rejects(run("node", ["other.js"], { cwd: project }), /ERR_PACKAGE_PATH_NOT_EXPORTED/);
    const built = join(project, "node_modules/session-authority/dist");
    assert.deepEqual(readdirSync(built).toSorted(), ["gen", "src"]);
    assert.deepEqual(readdirSync(join(built, "src")).toSorted(), ["client", "lib"]);
    assert.deepEqual(readdirSync(join(built, "src/lib")).toSorted(), ["cut_text.d.ts", "cut_text.js"]);
  });

  test("docs/cached-client.md contains the example, and the example works", { skip }, async () => {
    const page = readFileSync(join(ROOT, "docs/cached-client.md"), "utf8");
    assert.deepEqual(
      [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1]),
      [PUBLISHED_EXAMPLE],
    );
    writeFileSync(join(project, "quick.ts"), PUBLISHED_EXAMPLE);
    const { token } = await authorities.clients[0]!.createSecureSession({ userId: "quinn" });
    const address = authorities.servers[0]!.addresses.grpc!;
    const outputOf = async (...args: string[]) => (await run("node", ["quick.ts", ...args], { cwd: project })).stdout;
    assert.match(await outputOf(address, token), /^logged in as quinn\n/);
    assert.match(await outputOf(address, "nonsense"), /^not logged in\n/);
    assert.match(await outputOf("localhost:1", token), /^try again later: SessionClientError: UNAVAILABLE/);
  });
});
