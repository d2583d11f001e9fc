// The peer of the benches that uses the contract still builds against it.

import { test } from "node:test";
import { PEERS } from "../../bench/peers/peers.ts";

const peer = PEERS.find(({ kind }) => kind === "grpc")!;
const skip = process.env["CI"] ? "not in CI: it downloads Go modules" : (peer.missing() ?? false);

test(`the ${peer.name} peer builds against the contract`, { skip }, () => peer.install());
