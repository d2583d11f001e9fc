// Everything that belongs to an RPC is found by file name: its family is the name of the contract file that declares its request,
// and the handler, the store file, the scripts, the tests and the page carry that name too.

import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { test } from "node:test";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";

type Place = "contract" | "handler" | "store file" | "script" | "test" | "page";

/** Families that have no file of their own in a place. */
const MISSING_PLACES: Readonly<Record<string, { readonly places: readonly Place[]; readonly reason: string }>> = {
  bulk_validation: {
    places: ["store file", "script"],
    reason: "plain reads of src/store/record_reader.ts; scripts only to slide, for retired secrets and for IP binding",
  },
};

/** RPCs that no script names in its header. */
const WITHOUT_SCRIPT: Readonly<Record<string, string>> = {
  GetServerTime: "the store's command TIME",
  CountSessions: "plain reads of the counters",
};

/** Users of a script that are no RPC. */
const OTHER_USERS = /\bthe sweep\b/;

const rpcs = SessionService.methods.map(({ name, localName, input }) => ({
  name,
  localName,
  family: basename(input.file.name),
}));
const names = new Set(rpcs.map(({ name }) => name));

function filesOf(family: string): Readonly<Record<Place, string[]>> {
  return {
    contract: globSync(`proto/session/v1/${family}.proto`),
    handler: globSync(`src/service/${family}.ts`),
    "store file": globSync(`src/store/${family}*.ts`),
    script: globSync(`src/store/lua/${family}*.lua`),
    test: globSync(`test/contract/${family}*.test.ts`),
    page: globSync(`docs/${family.replaceAll("_", "-")}*.md`),
  };
}

for (const family of new Set(rpcs.map((rpc) => rpc.family))) {
  test(`${family} has its contract, handler, store file, script, test and page`, () => {
    const missing = Object.entries(filesOf(family)).flatMap(([place, files]) => (files.length === 0 ? [place] : []));
    assert.deepEqual(missing, MISSING_PLACES[family]?.places ?? []);
  });
}

for (const { name, localName, family } of rpcs) {
  test(`${name} is handled in src/service/${family}.ts`, () => {
    assert.match(
      readFileSync(`src/service/${family}.ts`, "utf8"),
      new RegExp(`^ +(?:async )?\\*?${localName}\\(`, "m"),
    );
  });
}

test("each script names what uses it: RPCs of the contract or the sweep", () => {
  for (const file of globSync("src/store/lua/*.lua")) {
    const users = usersOf(file);
    assert.ok(users.rpcs.length > 0 || OTHER_USERS.test(users.text), `${file} names nothing that uses it`);
    assert.deepEqual(
      users.rpcs.filter((name) => !names.has(name)),
      [],
      `${file} names RPCs that do not exist`,
    );
  }
});

test("each RPC is named by a script that it uses", () => {
  const named = new Set(globSync("src/store/lua/*.lua").flatMap((file) => usersOf(file).rpcs));
  const unnamed = rpcs.map(({ name }) => name).filter((name) => !named.has(name));
  assert.deepEqual(unnamed, Object.keys(WITHOUT_SCRIPT));
});

/** Reads the line "-- Used by …" of a script's header, which may go on in further lines. */
function usersOf(file: string): { text: string; rpcs: string[] } {
  const text = /^-- Used by ([^]*?)\n(?!-- {2,})/m.exec(readFileSync(file, "utf8"))?.[1] ?? "";
  return { text, rpcs: text.match(/\b[A-Z][a-z]\w*/g) ?? [] };
}
