// A protoc plugin: generates openapi.json, which describes the JSON side of SessionService, from the contract. `npm run
// generate` runs it through buf.

import { createEcmaScriptPlugin, runNodeJs } from "@bufbuild/protoplugin";
import { openApiDocument } from "./openapi/document.ts";

runNodeJs(
  createEcmaScriptPlugin({
    name: "protoc-gen-openapi",
    version: "v1",
    generateTs(schema) {
      const service = schema.files.flatMap(({ services }) => services).find(({ name }) => name === "SessionService");
      if (service === undefined) throw new Error("the files to generate contain no SessionService");
      schema.generateFile("openapi.json").print(JSON.stringify(openApiDocument(service, schema.allFiles), null, 2));
    },
  }),
);
