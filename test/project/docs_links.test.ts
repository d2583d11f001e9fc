// The links and paths in the pages and comments of the repository lead to files, and links to headings that exist.

import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../..");
const PAGES = ["*.md", "{.github,bench,docs,examples,proto,src,test}/**/*.md"];

type Link = { readonly page: string; readonly target: string };

function markdownFiles(): string[] {
  return globSync(PAGES, { cwd: ROOT, exclude: ["**/node_modules/**", "proto/third_party/**"] });
}

/** The text without code, in which nothing is a link or a heading. */
function proseOf(page: string): string {
  return readFileSync(join(ROOT, page), "utf8")
    .replace(/^```.*?^```$/gms, "")
    .replace(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]()]/g, ""));
}

function linksOf(page: string): Link[] {
  const targets = [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1]!);
  return targets.filter((target) => !/^[a-z]+:/i.test(target)).map((target) => ({ page, target }));
}

/** The anchors that a page's headings get: lower case, spaces as hyphens, other punctuation dropped. */
function anchorsOf(page: string): string[] {
  return [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** The fault of a link; undefined if it resolves. */
function faultOf({ page, target }: Link): string | undefined {
  const [path = "", anchor] = target.split("#");
  const file = path === "" ? page : relative(ROOT, join(ROOT, dirname(page), path));
  if (file.startsWith("..") || !existsSync(join(ROOT, file))) return `${page}: ${target} does not exist`;
  if (anchor === undefined || statSync(join(ROOT, file)).isDirectory()) return undefined;
  return anchorsOf(file).includes(anchor) ? undefined : `${page}: ${target} names no heading`;
}

test("every relative link resolves", () => {
  const links = markdownFiles().flatMap(linksOf);
  assert.ok(links.length > 30, `only ${links.length} links found`);
  assert.deepEqual(
    links.map(faultOf).filter((fault) => fault !== undefined),
    [],
  );
});

test("every page under docs/ is linked from the README or from another page", () => {
  const pages = markdownFiles();
  const linked = new Set(pages.flatMap(linksOf).map(({ page, target }) => join(dirname(page), target.split("#")[0]!)));
  assert.deepEqual(
    pages.filter((page) => page.startsWith("docs/") && !linked.has(page)),
    [],
  );
});

test("every path of a source file that a page, a comment or a script mentions exists", () => {
  const mention = /(?<![\w./-])(?:src|test|scripts|proto|docs|bench)\/[\w./-]+\.(?:ts|lua|md|proto)\b/g;
  const files = globSync(["*.md", "{docs,src,scripts,bench,examples,proto}/**/*.{md,ts,lua,proto}"], {
    cwd: ROOT,
    exclude: ["**/node_modules/**", "proto/third_party/**"],
  });
  const mentions = files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(mention)].map(([path]) => ({ file, path })),
  );
  assert.ok(mentions.length > 50, `only ${mentions.length} paths found`);
  assert.deepEqual(
    mentions.filter(({ path }) => !existsSync(join(ROOT, path))),
    [],
  );
});
