/** A name server for tests, over UDP and TCP. Its answers may change, fail, or not come at all. */
import { createSocket } from 'node:dgram';
import { createServer, type Socket } from 'node:net';

/** The records of a name, with TTLs in seconds. */
export interface Answer {
  readonly a?: readonly string[];
  readonly aaaa?: readonly string[];
  readonly ttl?: number;
  /** The failure to return in place of addresses. */
  readonly fails?: 'silent' | 'servfail' | 'nxdomain';
}

export interface Question {
  readonly name: string;
  readonly type: number;
  readonly at: number;
}

export interface DnsServer {
  readonly address: string;
  /** Sets the records of a name from now on. A name that was never set does not exist. */
  set(name: string, answer: Answer): void;
  /** All questions so far, or those about one name. */
  questions(name?: string): readonly Question[];
  stop(): Promise<void>;
}

const A = 1;
const AAAA = 28;
const SERVFAIL = 2;
const NXDOMAIN = 3;

/** Port 53, because APISIX accepts name servers without a port only. */
const PORT = 53;

export async function startDnsServer(address: string): Promise<DnsServer> {
  const answers = new Map<string, Answer>();
  const asked: Question[] = [];
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const sockets = new Set<Socket>();

  const reply = (query: Buffer): Buffer | undefined => {
    const { name, type, end } = readQuestion(query);
    asked.push({ name, type, at: Date.now() });
    const answer = answers.get(name) ?? { fails: 'nxdomain' };
    if (answer.fails === 'silent') return undefined;
    if (answer.fails !== undefined)
      return message(query, end, answer.fails === 'servfail' ? SERVFAIL : NXDOMAIN, []);
    const { a = [], aaaa = [], ttl = 1 } = answer;
    const records = type === A ? a.map(bytesOfV4) : type === AAAA ? aaaa.map(bytesOfV6) : [];
    return message(
      query,
      end,
      0,
      records.map((data) => record(type, ttl, data)),
    );
  };

  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(PORT, address, resolve);
  });
  udp.on('message', (query, from) => {
    const text = reply(query);
    if (text !== undefined) udp.send(text, from.port, from.address);
  });
  const tcp = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
    let received = Buffer.alloc(0);
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const text = reply(received.subarray(2, 2 + received.readUInt16BE(0)));
        received = received.subarray(2 + received.readUInt16BE(0));
        if (text !== undefined) socket.write(Buffer.concat([uint16(text.length), text]));
      }
    });
  });
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject);
    tcp.listen(PORT, address, resolve);
  });

  return {
    address,
    set: (name, answer) => {
      answers.set(name.toLowerCase(), answer);
    },
    questions: (name) => asked.filter((each) => name === undefined || each.name === name),
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => tcp.close(() => resolve()));
      await new Promise<void>((resolve) => udp.close(() => resolve()));
    },
  };
}

function readQuestion(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

/** An answer to a question that ends at `end`. It repeats the question. */
function message(query: Buffer, end: number, code: number, records: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(query.readUInt16BE(0), 0);
  head.writeUInt16BE(0x8180 | code, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

/** A record of the requested name, which is at byte 12 of every answer. */
function record(type: number, ttl: number, data: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

const uint16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
};

const bytesOfV4 = (address: string): Buffer => Buffer.from(address.split('.').map(Number));

function bytesOfV6(address: string): Buffer {
  const [before = '', after] = address.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [first, last] = [groups(before), groups(after)];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  return Buffer.concat([...first, ...zeros, ...last].map((group) => uint16(Number.parseInt(group, 16))));
}
