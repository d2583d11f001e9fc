// Comments of the contract as text for descriptions.

import type { AnyDesc, DescFile } from "@bufbuild/protobuf";
import { getComments, getPackageComments } from "@bufbuild/protoplugin";

/** Returns the comment above a declaration. */
export function commentOf(desc: Exclude<AnyDesc, DescFile>): string {
  return textOf(getComments(desc).leading);
}

/** Returns the comment above the package of a file. */
export function packageCommentOf(file: DescFile): string {
  return textOf(getPackageComments(file).leading);
}

function textOf(comment: string | undefined): string {
  return (comment ?? "").replaceAll(/^ /gm, "").trim();
}
