// Finds the file that declares a protobuf name, among the given files and everything they import.

import { createRegistry, type DescFile } from "@bufbuild/protobuf";
import type { DescriptorProto, EnumDescriptorProto } from "@bufbuild/protobuf/wkt";

export type DescriptorIndex = ReturnType<typeof createDescriptorIndex>;

export function createDescriptorIndex(roots: readonly DescFile[]) {
  const files = closure(roots);
  const registry = createRegistry(...files);
  const fileOfSymbol = new Map(files.flatMap((file) => Array.from(symbolsOf(file), (symbol) => [symbol, file])));

  return {
    /** Finds a file by its import path, for example `session/v1/session.proto`. */
    fileNamed: (path: string) => files.find((file) => file.proto.name === path),
    /** Finds a file by the full name of a type, field, enum value, service, method or extension that it declares. */
    fileOfSymbol: (name: string) => fileOfSymbol.get(name.replace(/^\./, "")),
    /** The extensions of a message; undefined for an unknown type. */
    extensionsOf(typeName: string) {
      if (registry.getMessage(typeName) === undefined) return undefined;
      const extensions = [...registry].filter((type) => type.kind === "extension");
      return extensions.filter((extension) => extension.extendee.typeName === typeName);
    },
    /** The file, and then everything it imports, directly or not. */
    withDependencies: (file: DescFile) => closure([file]),
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
