// The page /openapi.json: the OpenAPI document that `npm run generate` makes from the contract.

import { readFileSync } from "node:fs";
import type { Page } from "./pages.ts";

export function createOpenApiPage(): () => Page {
  const body = readFileSync(new URL("../../gen/openapi.json", import.meta.url), "utf8");
  return () => ({ status: 200, contentType: "application/json", body });
}
