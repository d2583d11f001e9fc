// The table of partition tags: tag p begins with p in hexadecimal, and its cluster slot is one of 64p to 64p + 63.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PARTITION_COUNT } from "../../src/domain/owner.ts";
import { slotOf } from "../../src/store/connection/slots.ts";
import { PARTITION_TAGS } from "../../src/store/partition_tags.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

const SLOTS_PER_PARTITION = 16_384 / PARTITION_COUNT;

/** CRC-16/XMODEM by polynomial division of the message and 16 zero bits: the definition, and not the product's loop. */
function slotByDefinition(tag: string): number {
  let remainder = 0n;
  const bits = [...Buffer.from(tag)].map((byte) => byte.toString(2).padStart(8, "0")).join("") + "0".repeat(16);
  for (const bit of bits) {
    remainder = (remainder << 1n) | BigInt(bit);
    if (remainder >= 0x1_0000n) remainder ^= 0x1_1021n;
  }
  return Number(remainder % 16_384n);
}

test("there is one tag for each partition, and no two are the same", () => {
  assert.equal(PARTITION_TAGS.length, PARTITION_COUNT);
  assert.equal(new Set(PARTITION_TAGS).size, PARTITION_COUNT);
});

test("tag p begins with p in two hexadecimal digits, and its slot is one of the 64 from 64p", () => {
  assert.equal(slotByDefinition("123456789"), 0x31c3, "the check value of the specification");
  for (const [partition, tag] of PARTITION_TAGS.entries()) {
    assert.match(tag, new RegExp(`^${partition.toString(16).padStart(2, "0")}[0-9a-z]{0,2}$`));
    assert.equal(Math.floor(slotByDefinition(tag) / SLOTS_PER_PARTITION), partition, `slot of ${tag}`);
    assert.equal(slotOf(`sa:{${tag}}:live`), slotByDefinition(tag));
  }
});

describe("CLUSTER KEYSLOT of a real store", { skip: redisServerMissing() }, () => {
  let server: RedisServer;
  before(async () => {
    server = await startRedisServer({ args: ["--cluster-enabled", "yes"] });
  });
  after(() => server.stop());

  test("agrees on the slot of every tag", async () => {
    for (const tag of PARTITION_TAGS) {
      const reply = await server.command("CLUSTER", "KEYSLOT", `sa:{${tag}}:live`);
      assert.equal(reply.trim(), `:${slotByDefinition(tag)}`, tag);
    }
  });
});
