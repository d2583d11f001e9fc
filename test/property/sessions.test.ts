// Random histories of sessions of every variant, mixed on the same users, over two instances on a real store: the service
// responds as the reference model does.

import { after, before, test } from "node:test";
import fc from "fast-check";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { createSteps } from "./steps_create.ts";
import { deviceSteps } from "./steps_device_sessions.ts";
import { Run, type Step } from "./steps_run.ts";
import { assertAllAudited, regenerationAndAuditSteps } from "./steps_audit.ts";
import { simpleAndHashSteps } from "./steps_simple_and_hash_sessions.ts";
import { secureSteps } from "./steps_secure_sessions.ts";
import { adminSteps, updateSteps } from "./steps_updates_and_admin.ts";

const RUNS = rounds({ quick: 400, all: 3_000, variable: "PROPERTY_RUNS" });
/** Histories that run concurrently; they share the store but no user. */
const CONCURRENCY = 8;
const skip = redisServerMissing();

let authorities: Authorities;

before(async () => {
  if (skip) return;
  // Every access slides, and no grace ends on its own.
  authorities = await startAuthorities({ instances: 2, touchIntervalMs: 0, env: { SA_ROTATION_GRACE: "5m" } });
});
after(async () => {
  if (skip) return;
  await authorities.assertStoreSound();
  await authorities.close();
});

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: createSteps },
  { weight: 5, arbitrary: simpleAndHashSteps },
  { weight: 6, arbitrary: secureSteps },
  { weight: 2, arbitrary: deviceSteps },
  { weight: 4, arbitrary: regenerationAndAuditSteps },
  { weight: 3, arbitrary: updateSteps },
  { weight: 1, arbitrary: adminSteps },
);

test(`${RUNS} random histories agree with the model`, { skip }, async () => {
  let runs = 0;
  const history = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30, size: "max" }), async (steps) => {
    const run = new Run(authorities, `run-${runs++}`);
    for (const each of steps) await run.take(each);
    await run.take(assertAllAudited);
  });
  const checks = Array.from({ length: CONCURRENCY }, () =>
    fc.assert(history, { numRuns: Math.ceil(RUNS / CONCURRENCY) }),
  );
  await Promise.all(checks);
});
