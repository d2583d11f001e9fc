// The race suite on the real service: two instances share a real store, and every race covers all kinds of sessions.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { createAuthoritySubject, type AuthoritySubject } from "./authority_subject.ts";
import { RACES } from "./suite.ts";

const ROUNDS = rounds({ quick: 300, all: 4_000, variable: "RACE_ROUNDS" });
const skip = redisServerMissing();

let authorities: Authorities;
let subject: AuthoritySubject;
let dataDir: string;

before(async () => {
  if (skip) return;
  dataDir = await mkdtemp(join(tmpdir(), "sa-races-"));
  // Every access slides the idle timeout, so that each of them writes. The instances share the key ring of their data
  // directory.
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0, env: { SA_DATA_DIR: dataDir } });
  subject = await createAuthoritySubject(authorities);
});
after(async () => {
  if (skip) return;
  subject.close();
  await authorities.close();
  await rm(dataDir, { recursive: true });
});

for (const [name, race] of Object.entries(RACES)) {
  test(`${name} holds for ${ROUNDS} rounds`, { skip }, () => race(subject, ROUNDS));
}

test("the store is consistent afterwards", { skip }, () => authorities.assertStoreSound());
