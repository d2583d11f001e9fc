// /metrics: calls are counted by method and code, and no session, token or user appears in it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startAuthorities } from "../helpers/authority.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

test("/metrics counts calls by method and code", { skip: redisServerMissing() }, async () => {
  const authorities = await startAuthorities({ env: { SA_REFLECTION: "false" } });
  try {
    const client = authorities.clients[0]!;
    const { session, token } = await client.createSecureSession({ userId: "metric-user" });
    await client.validateToken({ token });
    await client.validateToken({ token });
    await assert.rejects(client.createSession({ userId: "x".repeat(257) }));
    const response = await fetch(`http://${authorities.httpAddresses[0]}/metrics`);
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type")!, /^text\/plain/);
    assert.match(text, /^session_authority_calls_total\{method="ValidateToken",code="OK"\} 2$/m);
    assert.match(text, /^session_authority_calls_total\{method="CreateSession",code="InvalidArgument"\} 1$/m);
    assert.match(text, /^session_authority_call_duration_seconds_count\{method="ValidateToken"\} 2$/m);
    assert.match(text, /^session_authority_call_duration_seconds_bucket\{le="\+Inf",method="ValidateToken"\} 2$/m);
    assert.match(text, /^session_authority_call_duration_seconds_sum\{method="ValidateToken"\} [\d.e-]+$/m);
    // Every method that is served has its series from the start.
    for (const method of ["RevokeToken", "WatchInvalidations", "Check"]) {
      assert.match(text, new RegExp(`^session_authority_calls_total\\{method="${method}",code="OK"\\} 0$`, "m"));
      assert.match(
        text,
        new RegExp(`^session_authority_calls_total\\{method="${method}",code="Unavailable"\\} 0$`, "m"),
      );
      assert.match(text, new RegExp(`^session_authority_call_duration_seconds_count\\{method="${method}"\\} 0$`, "m"));
    }
    assert.doesNotMatch(text, /ServerReflectionInfo/, "a service that is switched off has no method");
    assert.match(text, /^session_authority_ready 1$/m);
    assert.match(text, /^session_authority_watchers 0$/m);
    for (const reason of ["silent", "cancelled_calls"]) {
      assert.match(text, new RegExp(`^session_authority_connections_ended_total\\{reason="${reason}"\\} 0$`, "m"));
    }
    for (const secret of [token, session!.sessionId, "metric-user"]) assert.ok(!text.includes(secret));
  } finally {
    await authorities.close();
  }
});
