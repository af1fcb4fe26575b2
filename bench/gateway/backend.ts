/** A backend with almost no cost, in its own thread, so that only the gateway is measured. */
import { Worker } from 'node:worker_threads';

const SOURCE = `
const http = require('node:http');
const { parentPort, workerData } = require('node:worker_threads');
const text = (length) => 'lorem ipsum dolor '.repeat(Math.ceil(length / 18)).slice(0, length);
const answer = (length) => JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'gpt-4o',
  choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: text(length) } }],
  usage: { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46 } });
const small = answer(800), large = answer(66000);
const headers = (body) => ({ 'content-type': 'application/json', 'content-length': Buffer.byteLength(body),
  'apim-request-id': '0f8b2c5e-7f0a-4f6e-9a58-3b1a5d1c0001', 'strict-transport-security': 'max-age=31536000; includeSubDomains; preload',
  'x-content-type-options': 'nosniff', 'x-ms-region': 'West Europe', 'x-ratelimit-remaining-requests': '29',
  'x-ratelimit-remaining-tokens': '29960', 'x-request-id': '0f8b2c5e-7f0a-4f6e-9a58-3b1a5d1c0002', 'cache-control': 'no-cache, must-revalidate' });
// Each event has a different word, because some proxies treat a repeated word as a fault of the model.
const event = (number) => 'data: ' + JSON.stringify({ choices: [{ index: 0, delta: { content: ' w' + (1000 + number) }, finish_reason: null, logprobs: null,
  content_filter_results: { hate: { filtered: false, severity: 'safe' }, self_harm: { filtered: false, severity: 'safe' } } }],
  created: 1, id: 'chatcmpl-1', model: 'gpt-4o-2024-08-06', object: 'chat.completion.chunk', system_fingerprint: 'fp_1' }) + '\\n\\n';
const events = Array.from({ length: 200 }, (_, number) => event(number));
const usage = 'data: ' + JSON.stringify({ choices: [], created: 1, id: 'chatcmpl-1', model: 'gpt-4o', object: 'chat.completion.chunk',
  usage: { prompt_tokens: 12, completion_tokens: 200, total_tokens: 212 } }) + '\\n\\ndata: [DONE]\\n\\n';
http.createServer((request, response) => {
  // Other proxies drop unknown headers, so a stream is also recognised by the body.
  let kind = request.headers['x-bench'];
  request.on('data', (piece) => {
    if (kind === undefined && (piece.includes('"stream":true') || piece.includes('"stream": true'))) kind = 'stream';
  });
  request.on('end', () => {
    if (kind !== 'stream') {
      const body = kind === 'large' ? large : small;
      response.writeHead(200, headers(body));
      return response.end(body);
    }
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    let sent = 0;
    const timer = setInterval(() => {
      response.write(events[sent]);
      if (++sent === events.length) { clearInterval(timer); response.end(usage); }
    }, 1);
  });
}).listen(0, workerData.host, function () { parentPort.postMessage(this.address().port); });
`;

export interface Backend {
  readonly port: number;
  stop(): Promise<void>;
}

export async function startBackend(host: string): Promise<Backend> {
  const worker = new Worker(SOURCE, { eval: true, workerData: { host } });
  const port = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return {
    port,
    stop: async () => {
      await worker.terminate();
    },
  };
}
