// The TLS options of both hosts.

export type TlsOptions = {
  /** PEM. */
  readonly cert: Buffer;
  /** PEM. */
  readonly key: Buffer;
  /** PEM. If given, clients must present a certificate signed by it. */
  readonly clientCa?: Buffer | undefined;
};
