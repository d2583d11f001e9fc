// The ACL rules that the service needs: it works with exactly them, and without any one of the commands, `doctor` and the checks
// at the start name that command.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { runDoctor, type DoctorCheck } from "../../src/cli/doctor.ts";
import { loadConfig, type Config } from "../../src/config/config.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { startServer } from "../../src/server.ts";
import { aclCommands, aclRules } from "../../src/store/compatibility/commands.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { callEveryMethod } from "../helpers/every_method.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";

/** Starts a server with a user `sa` to whom exactly the rules for that URL apply. */
async function startWithUser(url: (port: number) => string, args: readonly string[] = []) {
  const server = await startRedisServer({ args });
  const storeUrl = url(server.port);
  const rules = aclRules(parseStoreUrl(storeUrl).url!).split(" ");
  assert.equal(await server.command("ACL", "SETUSER", "sa", "reset", "on", ">pw", ...rules), "+OK");
  return { server, config: configFor(storeUrl, server.dataDir) };
}

function configFor(storeUrl: string, dataDir: string): Config {
  const listen = { SA_GRPC_LISTEN: "127.0.0.1:0", SA_HTTP_LISTEN: "off" };
  return loadConfig({ SA_STORE_URL: storeUrl, SA_DATA_DIR: dataDir, SA_LOG_LEVEL: "silent", ...listen });
}

async function examine(config: Config): Promise<{ healthy: boolean; failures: DoctorCheck[] }> {
  const failures: DoctorCheck[] = [];
  const healthy = await runDoctor(config, (check) => void (check.status === "failed" && failures.push(check)));
  return { healthy, failures };
}

/** Resolves to the message of the error that the service does not start with. */
async function refusal(config: Config): Promise<string> {
  return await startServer(config, createLogger(config)).then(
    async (server) => {
      await server.close();
      return "it has started";
    },
    (error: Error) => error.message,
  );
}

/** Takes the command away, and asserts that the doctor and the start name it. */
async function assertMissed(server: RedisServer, config: Config, command: string): Promise<void> {
  assert.equal(await server.command("ACL", "SETUSER", "sa", `-${command}`), "+OK");
  try {
    const [{ healthy, failures }, reason] = await Promise.all([examine(config), refusal(config)]);
    assert.equal(healthy, false, `doctor accepts a store without ${command}`);
    const name = command.toUpperCase().replace("|", " ");
    // Without these commands there is no connection, and the store's reply names the command.
    const reply = new RegExp(`the store .*: NOPERM.*'${command.replace("|", "\\|")}'`);
    const isNamed = ({ check, text }: DoctorCheck) => check === name || reply.test(text);
    assert.ok(failures.some(isNamed), `doctor does not name ${command}: ${JSON.stringify(failures)}`);
    assert.ok(reason.includes(`\n  ${name}: `) || reply.test(reason), `the start does not name ${command}: ${reason}`);
  } finally {
    await server.command("ACL", "SETUSER", "sa", `+${command}`);
  }
}

describe("a user with exactly the rules", { skip: redisServerMissing() }, () => {
  let server: RedisServer;
  let config: Config;
  before(async () => ({ server, config } = await startWithUser((port) => `redis://sa:pw@127.0.0.1:${port}`)));
  after(() => server.stop());

  test("serves every method, and nothing is refused", async () => {
    await server.command("ACL", "LOG", "RESET");
    const running = await startServer(config, createLogger(config));
    try {
      const called = await callEveryMethod(running.addresses.grpc!);
      assert.deepEqual([...called].toSorted(), SessionService.methods.map(({ name }) => name).toSorted());
    } finally {
      await running.close();
    }
    // Two checks try more than they need; INFO has the same facts.
    const log = await server.command("ACL", "LOG");
    const refused = new Set([...log.matchAll(/object\r\n\$\d+\r\n([^\r]+)/g)].map(([, name]) => name));
    assert.deepEqual([...refused].toSorted(), ["role"]);
  });

  test("passes the checks of doctor", async () => {
    assert.deepEqual(await examine(config), { healthy: true, failures: [] });
  });

  for (const command of aclCommands({ kind: "single", database: 0 })) {
    test(`without ${command} the store is refused, and the command is named`, () =>
      assertMissed(server, config, command));
  }

  test("all commands that are missing are named together", async () => {
    await server.command("ACL", "SETUSER", "sa", "-rpush", "-xadd", "-mget", "-subscribe");
    try {
      const { failures } = await examine(config);
      assert.deepEqual(failures.map(({ check }) => check).toSorted(), ["MGET", "RPUSH", "SUBSCRIBE", "XADD", "store"]);
      const message = await refusal(config);
      for (const name of ["MGET", "RPUSH", "SUBSCRIBE", "XADD"]) assert.ok(message.includes(name), message);
    } finally {
      await server.command("ACL", "SETUSER", "sa", "+rpush", "+xadd", "+mget", "+subscribe");
    }
  });

  test("keys and channels that are missing are named", async () => {
    for (const [rules, named] of [
      [["resetkeys", "~other:*"], /key/],
      [["resetkeys", "%R~sa:*"], /key/],
      [["resetchannels"], /channel/],
      [["resetchannels", "&sa:{*"], /channel/],
    ] as const) {
      await server.command("ACL", "SETUSER", "sa", ...rules);
      const { healthy, failures } = await examine(config);
      assert.equal(healthy, false, rules.join(" "));
      assert.match(failures[0]!.text, named);
      assert.match(await refusal(config), named);
      await server.command("ACL", "SETUSER", "sa", "resetkeys", "~sa:*", "resetchannels", "&sa:*");
    }
  });
});

test("with Sentinel, the rules of a single node suffice", { skip: redisServerMissing() }, async () => {
  const { server, config } = await startWithUser((port) => `redis://sa:pw@127.0.0.1:${port}`);
  const sentinel = await startRedisServer({ sentinel: `sentinel monitor main 127.0.0.1 ${server.port} 1\n` });
  const storeUrl = `redis+sentinel://sa:pw@127.0.0.1:${sentinel.port}/main`;
  try {
    assert.deepEqual(await examine(configFor(storeUrl, server.dataDir)), { healthy: true, failures: [] });
    assert.deepEqual(aclCommands(config.storeUrl), aclCommands(parseStoreUrl(storeUrl).url));
  } finally {
    await Promise.all([server.stop(), sentinel.stop()]);
  }
});

describe("what only some stores need", { skip: redisServerMissing(), concurrency: true }, () => {
  test("select, for a database other than 0", async () => {
    const { server, config } = await startWithUser((port) => `redis://sa:pw@127.0.0.1:${port}/1`);
    try {
      assert.deepEqual(await examine(config), { healthy: true, failures: [] });
      await assertMissed(server, config, "select");
    } finally {
      await server.stop();
    }
  });

  test("asking and cluster|slots, for a cluster", async () => {
    const url = (port: number) => `redis+cluster://sa:pw@127.0.0.1:${port}`;
    const { server, config } = await startWithUser(url, ["--cluster-enabled", "yes"]);
    try {
      await server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
      while (!(await server.command("CLUSTER", "INFO")).includes("cluster_state:ok")) await sleep(20);
      assert.deepEqual(await examine(config), { healthy: true, failures: [] });
      await assertMissed(server, config, "asking");
      await assertMissed(server, config, "cluster|slots");
    } finally {
      await server.stop();
    }
  });
});
