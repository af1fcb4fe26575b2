/** The tokens that the gateway's metrics counted, by client. */

const TOKENS = /^apisix_llm_(?:prompt|completion)_tokens\{([^}]*)\} (\S+)$/gm;
const CONSUMER = /(?:^|,)consumer="([^"]*)"/;

/** Tokens by the name of the client, from Prometheus' text. */
export function tokensByClient(text: string): ReadonlyMap<string, number> {
  const tokens = new Map<string, number>();
  for (const [, labels = '', value = ''] of text.matchAll(TOKENS)) {
    const [, consumer = ''] = CONSUMER.exec(labels) ?? [];
    tokens.set(consumer, (tokens.get(consumer) ?? 0) + Number(value));
  }
  return tokens;
}
