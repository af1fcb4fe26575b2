/**
 * The nginx that docs/clients.md puts in front of a gateway: from APISIX's image, in the same network, with a self-signed
 * certificate.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GenericContainer, Wait } from 'testcontainers';
import { APISIX_IMAGE, type Apisix, PORTS } from './apisix.ts';
import { snippet } from './clients.ts';

/** For `sidecarPorts`. */
export const TLS_PORT = 8443;

export interface TlsProxy {
  readonly url: string;
  /** The file of its certificate, which clients must trust. */
  readonly certificate: string;
  stop(): Promise<void>;
}

/** Starts the proxy and waits until it accepts connections. */
export async function startTlsProxy(apisix: Apisix): Promise<TlsProxy> {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-tls-'));
  const file = (name: string) => join(folder, name);
  const about = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  execFileSync(
    'openssl',
    ['req', '-x509', ...key, ...about, '-keyout', file('tls.key'), '-out', file('tls.crt')],
    { stdio: 'pipe' },
  );
  const server = snippet('tls')
    .replace('http://gateway:9080', `http://127.0.0.1:${PORTS.proxy}`)
    .replace('listen 443 ssl', `listen ${TLS_PORT} ssl`);
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((each) => `${each}_temp_path /tmp/${each};\n`)
    .join('');
  const content = `events {}\nerror_log stderr notice;\npid /tmp/nginx.pid;\nhttp {\naccess_log off;\n${folders}${server}}\n`;
  const inFolder = (name: string) => ({
    content: readFileSync(file(name)),
    target: `/etc/gateway/${name}`,
    mode: 0o644,
  });
  const container = new GenericContainer(APISIX_IMAGE)
    .withName(`genai-gateway-tls-${randomUUID()}`)
    .withNetworkMode(`container:${apisix.containerId}`)
    .withCopyContentToContainer([
      { content, target: '/etc/gateway/nginx.conf', mode: 0o644 },
      inFolder('tls.crt'),
      inFolder('tls.key'),
    ])
    .withEntrypoint(['/usr/local/openresty/nginx/sbin/nginx'])
    .withCommand(['-c', '/etc/gateway/nginx.conf', '-p', '/tmp', '-e', 'stderr', '-g', 'daemon off;'])
    .withStartupTimeout(30_000)
    .withWaitStrategy(Wait.forLogMessage(/start worker process/));
  try {
    const started = await container.start();
    return {
      url: `https://127.0.0.1:${apisix.mappedPort(TLS_PORT)}`,
      certificate: file('tls.crt'),
      stop: async () => {
        await started.stop({ timeout: 0 });
        rmSync(folder, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}
