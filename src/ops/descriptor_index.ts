// Finds the file that declares a protobuf name, among the given files and everything they import.

import type { DescFile } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import type { DescriptorProto, EnumDescriptorProto } from "@bufbuild/protobuf/wkt";

export type DescriptorIndex = {
  /** Finds a file by its import path, for example `session/v1/session.proto`. */
  fileNamed(name: string): DescFile | undefined;
  /** Finds a file by the full name of a type, field, enum value, service, method or extension that it declares. */
  fileOfSymbol(name: string): DescFile | undefined;
  /** The files that declare a message's extensions, by field number; undefined for an unknown type. */
  extensionsOf(typeName: string): ReadonlyMap<number, DescFile> | undefined;
  /** The file, and then everything it imports, directly or not. */
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

/** The roots and everything they import; every file comes before what it imports. */
function closure(roots: readonly DescFile[]): DescFile[] {
  const importedFirst = new Set<DescFile>();
  const visit = (file: DescFile) => {
    if (importedFirst.has(file)) return;
    file.dependencies.forEach(visit);
    importedFirst.add(file);
  };
  roots.forEach(visit);
  return [...importedFirst].toReversed();
}

function* symbolsOf({ proto }: DescFile): Iterable<string> {
  const scope = proto.package === "" ? "" : `${proto.package}.`;
  for (const message of proto.messageType) yield* symbolsOfMessage(scope, message);
  for (const enumeration of proto.enumType) yield* symbolsOfEnum(scope, enumeration);
  for (const extension of proto.extension) yield scope + extension.name;
  for (const service of proto.service) {
    yield scope + service.name;
    for (const method of service.method) yield `${scope}${service.name}.${method.name}`;
  }
}

function* symbolsOfMessage(scope: string, message: DescriptorProto): Iterable<string> {
  yield scope + message.name;
  const inner = `${scope}${message.name}.`;
  for (const member of [...message.field, ...message.oneofDecl, ...message.extension]) yield inner + member.name;
  for (const nested of message.nestedType) yield* symbolsOfMessage(inner, nested);
  for (const enumeration of message.enumType) yield* symbolsOfEnum(inner, enumeration);
}

function* symbolsOfEnum(scope: string, enumeration: EnumDescriptorProto): Iterable<string> {
  yield scope + enumeration.name;
  // The values of an enum are declared beside it, not inside it.
  for (const value of enumeration.value) yield scope + value.name;
}
