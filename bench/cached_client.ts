// A process with a cached client. It validates tokens as often as the bench requests by message.

import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient } from "../src/client/index.ts";
import { serveUsage } from "../test/helpers/server_process.ts";

const [address, ...tokens] = process.argv.slice(2) as [string, ...string[]];
const client = createSessionClient({ address });
while (client.statistics().safeForMs === 0) await sleep(10);
for (const token of tokens) await client.validateToken(token);

async function lookUp(count: number): Promise<void> {
  const { hits } = client.statistics();
  for (let i = 0; i < count; i++) await client.validateToken(tokens[i % tokens.length]!);
  const found = client.statistics().hits - hits;
  process.send!(`${found}`);
}

serveUsage("", (count) => void lookUp(Number(count)));
