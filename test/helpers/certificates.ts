// Certificates for tests, made by openssl: an authority, and what it signs for this machine.

import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";

/** Returns the reason to skip tests that need certificates, or false. */
export function opensslMissing(): string | false {
  return spawnSync("openssl", ["version"]).error ? "openssl is not installed" : false;
}

export type Certificates = {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
};

const NEW_KEY = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];

/** Makes an authority, and a certificate that it signs for localhost. Returns the paths of the files, which begin with `name`. */
export function makeCertificates(directory: string, name: string): Certificates {
  const path = (suffix: string) => join(directory, `${name}${suffix}`);
  const files = { ca: path("-ca.pem"), cert: path("-cert.pem"), key: path("-key.pem") };
  const openssl = (args: readonly string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  openssl([...NEW_KEY, "-subj", `/CN=${name} authority`, "-keyout", path("-ca-key.pem"), "-out", files.ca]);
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const signer = ["-CA", files.ca, "-CAkey", path("-ca-key.pem"), "-addext", "basicConstraints=critical,CA:FALSE"];
  openssl([...NEW_KEY, ...names, ...signer, "-keyout", files.key, "-out", files.cert]);
  return files;
}
