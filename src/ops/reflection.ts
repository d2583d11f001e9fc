// Server reflection, v1 and v1alpha, over the generated descriptors.

import { toBinary, type DescFile, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.ts";
import { file_session_v1_errors } from "../../gen/session/v1/errors_pb.ts";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { operatorRoutes, type Route } from "../rpc/routes.ts";
import { createDescriptorIndex, type DescriptorIndex } from "./descriptor_index.ts";

type ReflectionRequest = ServerReflectionRequest["messageRequest"];
type ReflectionResponse = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/**
 * The routes of both versions. They list themselves beside `services`. They require the scope `read`: the contract is public, but a
 * response is 200 times as large as its request.
 */
export function reflectionRoutes(services: readonly DescService[]): Route[] {
  const listed = [...services, ServerReflection, ServerReflectionAlpha];
  // The details of errors and their reasons are added, since no message of the contract refers to them and tools could not
  // decode them.
  const errors = [file_google_rpc_error_details, file_session_v1_errors];
  const index = createDescriptorIndex([...listed.map((service) => service.file), ...errors]);

  async function* serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequest>) {
    for await (const originalRequest of requests) {
      const messageResponse = respond(index, listed, originalRequest.messageRequest);
      yield { validHost: originalRequest.host, originalRequest, messageResponse };
    }
  }
  // The two versions differ in the names of their types only.
  const versions = [ServerReflection, ServerReflectionAlpha as unknown as typeof ServerReflection];
  return versions.flatMap((version) => operatorRoutes(version, { serverReflectionInfo }, "read"));
}

function respond(
  index: DescriptorIndex,
  services: readonly DescService[],
  request: ReflectionRequest,
): ReflectionResponse {
  switch (request.case) {
    case "fileByFilename":
      return fileResponse(index, index.fileNamed(request.value));
    case "fileContainingSymbol":
      return fileResponse(index, index.fileOfSymbol(request.value));
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = request.value;
      const extensions = index.extensionsOf(containingType);
      return fileResponse(index, extensions?.find(({ number }) => number === extensionNumber)?.file);
    }
    case "allExtensionNumbersOfType": {
      const extensions = index.extensionsOf(request.value);
      if (extensions === undefined) return errorResponse(Code.NotFound, "no such message type");
      const extensionNumber = extensions.map(({ number }) => number);
      return { case: "allExtensionNumbersResponse", value: { baseTypeName: request.value, extensionNumber } };
    }
    case "listServices":
      return {
        case: "listServicesResponse",
        value: { service: services.map((service) => ({ name: service.typeName })) },
      };
    case undefined:
      return errorResponse(Code.InvalidArgument, "the request asks for nothing");
  }
}

/** The file, and then everything it imports, so that a client needs one request only. */
function fileResponse(index: DescriptorIndex, file: DescFile | undefined): ReflectionResponse {
  if (file === undefined) return errorResponse(Code.NotFound, "no such file, symbol or extension");
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: encodedWithImports(index, file) } };
}

const encodedFiles = new Map<DescFile, Uint8Array<ArrayBuffer>[]>();

/** Encodes the descriptors once. */
function encodedWithImports(index: DescriptorIndex, file: DescFile): Uint8Array<ArrayBuffer>[] {
  let files = encodedFiles.get(file);
  if (files === undefined) {
    files = index.withDependencies(file).map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    encodedFiles.set(file, files);
  }
  return files;
}

function errorResponse(errorCode: Code, errorMessage: string): ReflectionResponse {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
