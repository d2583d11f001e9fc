// Finds the file that declares a protobuf name, among some files and everything they import.

import type { DescFile } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";

export type DescriptorIndex = {
  /** By its path on the import path, for example `session/v1/session.proto`. */
  fileNamed(name: string): DescFile | undefined;
  /** By the full name of anything a file declares: types, fields, enum values, services, methods, extensions. */
  fileOfSymbol(name: string): DescFile | undefined;
  /** The files of a message's extensions by number; undefined for a type that is not known. */
  extensionsOf(typeName: string): ReadonlyMap<number, DescFile> | undefined;
  /** The file, and then everything it imports. */
  withDependencies(file: DescFile): DescFile[];
};

export function createDescriptorIndex(roots: readonly DescFile[]): DescriptorIndex {
  const files = closure(roots);
  const fileOfName = new Map<string, DescFile>();
  const fileOfSymbol = new Map<string, DescFile>();
  const extensions = new Map<string, Map<number, DescFile>>();

  for (const file of files) {
    fileOfName.set(file.proto.name, file);
    for (const symbol of symbolsOf(file)) fileOfSymbol.set(symbol, file);
    for (const type of nestedTypes(file)) {
      if (type.kind === "message" && !extensions.has(type.typeName)) extensions.set(type.typeName, new Map());
      if (type.kind !== "extension") continue;
      const { typeName } = type.extendee;
      if (!extensions.has(typeName)) extensions.set(typeName, new Map());
      extensions.get(typeName)!.set(type.number, file);
    }
  }

  return {
    fileNamed: (name) => fileOfName.get(name),
    fileOfSymbol: (name) => fileOfSymbol.get(name.replace(/^\./, "")),
    extensionsOf: (typeName) => extensions.get(typeName),
    withDependencies: (file) => closure([file]),
  };
}

function closure(roots: readonly DescFile[]): DescFile[] {
  // A set is walked in the order of insertion, including what is inserted under way.
  const files = new Set(roots);
  for (const file of files) for (const dependency of file.dependencies) files.add(dependency);
  return [...files];
}

function* symbolsOf(file: DescFile): Iterable<string> {
  for (const type of nestedTypes(file)) {
    yield type.typeName;
    if (type.kind === "message") {
      for (const member of [...type.fields, ...type.oneofs]) yield `${type.typeName}.${member.name}`;
    } else if (type.kind === "enum") {
      // The values of an enum are declared beside it, not inside it.
      const scope = type.typeName.slice(0, type.typeName.lastIndexOf(".") + 1);
      for (const value of type.values) yield `${scope}${value.name}`;
    } else if (type.kind === "service") {
      for (const method of type.methods) yield `${type.typeName}.${method.name}`;
    }
  }
}
