// Pages for operators, such as /metrics and /readyz, independent of how they are served.

/** The response to a GET of a page. */
export type Page = { readonly status: number; readonly contentType: string; readonly body: string };

/** Pages by their path. A page is created for each request. */
export type Pages = Readonly<Record<string, () => Page | Promise<Page>>>;

export function jsonPage(status: number, body: object): Page {
  return { status, contentType: "application/json", body: `${JSON.stringify(body)}\n` };
}
