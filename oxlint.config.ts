// The lint rules. Those about imports are derived from one table, so that dependencies between folders point one way.

import { defineConfig, type OxlintOverride } from "oxlint";

/** For each folder of src, the other folders and files of the project that its files may import. */
const IMPORTS: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  domain: ["lib", "../gen/session/v1/options_pb.ts", "../gen/session/v1/errors_pb.ts"],
  store: ["lib", "domain"],
  watch: ["lib", "domain", "store", "gen"],
  service: ["lib", "domain", "store", "watch", "gen"],
  auth: ["lib", "domain"],
  rpc: ["lib", "domain", "service", "auth", "gen"],
  ops: ["lib", "domain", "rpc", "gen"],
  transport: ["lib", "domain", "rpc", "ops", "gen"],
  config: ["lib", "domain", "store/connection/store_url.ts"],
  workers: ["lib", "domain", "store", "auth", "ops", "transport", "config", "server.ts"],
  cli: ["lib", "domain", "store", "auth", "ops", "transport", "config", "server.ts", "gen"],
  client: ["lib/cut_text.ts", "gen"],
};

/** The packages that only some folders of src may import. */
const STORE_CLIENT = { folders: ["store"], packages: ["redis", "@redis/*"] };
const RPC_LIBRARIES = {
  // The healthcheck of cli is a caller of the service.
  folders: ["rpc", "ops", "transport", "client", "cli"],
  packages: ["@grpc/*", "@connectrpc/*"],
};

/** The depths in src at which files lie. If a file lies deeper, test/project/import_rules.test.ts fails. */
const DEPTHS = [1, 2];

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import", "node"],
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: "error" },
  categories: { correctness: "error" },
  ignorePatterns: ["gen/**"],
  rules: {
    "typescript/no-floating-promises": "error",
    "typescript/no-explicit-any": "error",
    "typescript/consistent-type-imports": "error",
    "import/no-default-export": "error",
    // A cycle of type imports is an error as well: it ties files together as much as one of values.
    "import/no-cycle": ["error", { ignoreTypes: false }],
    eqeqeq: "error",
    "no-var": "error",
    "prefer-const": "error",
    "typescript/unbound-method": "off",
    "typescript/require-array-sort-compare": "off",
    "typescript/no-base-to-string": "off",
    "typescript/await-thenable": "off",
    "unicorn/no-useless-spread": "off",
  },
  overrides: [
    ...Object.keys(IMPORTS).flatMap((folder) => DEPTHS.map((depth) => importsOfFolder(folder, depth))),
    restrictImports(
      ["src/server.ts"],
      [
        {
          group: ["./main.ts", "./workers/**", "./cli/**", "./client/**"],
          message: "src/server.ts may not import what is built on it",
        },
        ...forbiddenPackages(),
      ],
    ),
    restrictImports(["src/main.ts"], forbiddenPackages()),
    {
      // A longer file or function needs an oxlint-disable comment that says why.
      files: ["src/**"],
      rules: {
        "max-lines": ["error", 250],
        "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
      },
    },
    {
      files: ["test/**"],
      rules: {
        "typescript/no-floating-promises": [
          "error",
          {
            allowForKnownSafeCalls: [
              {
                from: "package",
                package: "node:test",
                name: ["test", "describe", "it", "suite", "before", "after", "beforeEach", "afterEach"],
              },
            ],
          },
        ],
      },
    },
    { files: ["oxlint.config.ts"], rules: { "import/no-default-export": "off" } },
  ],
});

type Pattern = { group: string[]; message: string };

/**
 * Returns the rule for the files of a folder that lie `depth` levels below src: an import that leaves the folder is an
 * error unless IMPORTS allows it.
 */
function importsOfFolder(folder: string, depth: number): OxlintOverride {
  const src = "../".repeat(depth);
  const allowed = IMPORTS[folder]!.map((target) => {
    const root = target === "gen" ? `${src}../gen` : src + target;
    return target.endsWith(".ts") ? `!${root}` : `!${root}/**`;
  });
  return restrictImports(
    [`src/${folder}${"/*".repeat(depth)}.ts`],
    [
      {
        group: [`${src}**`, ...allowed],
        message: `src/${folder} may import only ${IMPORTS[folder]!.join(", ") || "packages"}`,
      },
      ...forbiddenPackages(folder),
    ],
  );
}

function forbiddenPackages(folder?: string): Pattern[] {
  return [STORE_CLIENT, RPC_LIBRARIES]
    .filter(({ folders }) => folder === undefined || !folders.includes(folder))
    .map(({ folders, packages }) => ({
      group: packages,
      message: `only these folders of src may import this package: ${folders.join(", ")}`,
    }));
}

function restrictImports(files: string[], patterns: Pattern[]): OxlintOverride {
  return { files, rules: { "no-restricted-imports": ["error", { patterns }] } };
}
