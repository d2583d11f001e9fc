// Server reflection, v1 and v1alpha, over the generated descriptors. Anybody may ask: the contract is public.

import { toBinary, type DescFile, type DescService } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.ts";
import type {
  ServerReflection,
  ServerReflectionRequest,
  ServerReflectionResponse,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import type {
  ServerReflection as ServerReflectionAlpha,
  ServerReflectionRequest as ServerReflectionRequestAlpha,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { createDescriptorIndex } from "./descriptor_index.ts";
import type { OpenServiceImpl } from "../rpc/routes.ts";

type RequestKind = ServerReflectionRequest["messageRequest"];
/** The answer without its type names, which are all that the versions differ in. */
type ResponseKind = WithoutTypeName<ServerReflectionResponse["messageResponse"]>;
type WithoutTypeName<T> = T extends Uint8Array
  ? T
  : T extends readonly (infer E)[]
    ? WithoutTypeName<E>[]
    : T extends object
      ? { [K in keyof T as K extends `$${string}` ? never : K]: WithoutTypeName<T[K]> }
      : T;

export function createReflection(services: readonly DescService[]): {
  v1: OpenServiceImpl<typeof ServerReflection>;
  v1alpha: OpenServiceImpl<typeof ServerReflectionAlpha>;
} {
  // No message refers to the details of errors, so tools would not be able to show them.
  const index = createDescriptorIndex([...services.map((service) => service.file), file_google_rpc_error_details]);

  function answer(question: RequestKind): ResponseKind {
    switch (question.case) {
      case "fileByFilename":
        return fileAnswer(index.fileNamed(question.value));
      case "fileContainingSymbol":
        return fileAnswer(index.fileOfSymbol(question.value));
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        return fileAnswer(index.extensionsOf(containingType)?.get(extensionNumber));
      }
      case "allExtensionNumbersOfType": {
        const extensions = index.extensionsOf(question.value);
        if (extensions === undefined) return errorAnswer(Code.NotFound, "no such message type");
        const extensionNumber = [...extensions.keys()];
        return {
          case: "allExtensionNumbersResponse",
          value: { baseTypeName: question.value, extensionNumber },
        };
      }
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: services.map((service) => ({ name: service.typeName })) },
        };
      case undefined:
        return errorAnswer(Code.InvalidArgument, "the request asks for nothing");
    }
  }

  // The file comes first and everything it imports with it, so that one answer is enough.
  function fileAnswer(file: DescFile | undefined): ResponseKind {
    if (file === undefined) return errorAnswer(Code.NotFound, "no such file, symbol or extension");
    const fileDescriptorProto = index
      .withDependencies(file)
      .map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  }

  async function* v1(requests: AsyncIterable<ServerReflectionRequest>) {
    for await (const originalRequest of requests) {
      const messageResponse = answer(originalRequest.messageRequest);
      yield { validHost: originalRequest.host, originalRequest, messageResponse };
    }
  }

  async function* v1alpha(requests: AsyncIterable<ServerReflectionRequestAlpha>) {
    for await (const originalRequest of requests) {
      const messageResponse = answer(originalRequest.messageRequest as unknown as RequestKind);
      yield { validHost: originalRequest.host, originalRequest, messageResponse };
    }
  }

  return { v1: { serverReflectionInfo: v1 }, v1alpha: { serverReflectionInfo: v1alpha } };
}

function errorAnswer(errorCode: Code, errorMessage: string): ResponseKind {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
