// What both hosts need to serve TLS.

export type TlsOptions = {
  /** PEM. */
  readonly cert: Buffer;
  /** PEM. */
  readonly key: Buffer;
  /** PEM; when given, clients must present a certificate that it signed. */
  readonly clientCa?: Buffer | undefined;
};
