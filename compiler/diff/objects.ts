/** Which object of the gateway a place in a document belongs to, and what that place is called there. Pure. */
import type { DocumentName } from '../emit/emit.ts';

export interface ObjectPlace {
  /** What kind of thing: `backend`, `client`, `plugin`. */
  readonly object: string;
  readonly name?: string;
  /** The rest of the path, in the words that users know; empty: the object itself. */
  readonly field: string;
  /** The path is not the object itself but a further part of it: its details elsewhere, its second key. */
  readonly part?: true;
}

/** Fields whose place in the file says less than a word. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  backend: { 'auth.header.api-key': 'key', 'override.endpoint': 'endpoint' },
  client: {
    'plugins.azure-openai-auth.key': 'key',
    'plugins.azure-openai-auth.lane': 'lane',
    'plugins.azure-openai-auth.models': 'models',
    'plugins.azure-openai-auth.tokens_per_minute': 'tokens a minute',
    'plugins.azure-openai-auth.tokens_per_day': 'tokens a day',
    'plugins.azure-openai-auth.requests_per_minute': 'requests a minute',
    'credential secondary': 'second key',
    'credential secondary.plugins.azure-openai-auth.key': 'second key',
  },
  'setting of the gateway': {
    'apisix.ssl.ssl_trusted_certificate': 'trusted CA file',
    'nginx_config.error_log_level': 'log level',
    'nginx_config.http.access_log_format': 'access log format',
    'nginx_config.http.client_max_body_size': 'largest body',
    'nginx_config.http.real_ip_from': 'trusted proxies',
    'nginx_config.worker_processes': 'workers',
    'plugin_attr.prometheus.export_uri': 'metrics path',
    'plugin_attr.azure-openai-metrics.max_lines': 'lines of metrics',
    'plugin_attr.azure-openai-metrics.max_bytes': 'bytes of metrics',
    'nginx_config.meta.lua_shared_dict.prometheus-cache': 'memory for the page of metrics',
    'nginx_config.http.lua_shared_dict.prometheus-metrics': 'memory for values of metrics',
    plugins: 'plugins',
  },
  'collector price': { 'operations[0].experimental_scale': 'USD a token' },
};

const place = (object: string, name: string | undefined, rest: readonly string[]): ObjectPlace => {
  const field = rest.join('.').replaceAll('.[', '[');
  const known = FIELDS[object];
  return {
    object,
    ...(name === undefined ? {} : { name }),
    field: known && Object.hasOwn(known, field) ? (known[field] ?? field) : field,
  };
};

const part = (found: ObjectPlace): ObjectPlace => ({ ...found, part: true });

export function objectAt(document: DocumentName, path: readonly string[]): ObjectPlace {
  switch (document) {
    case 'apisix.yaml':
      return inApisix(path);
    case 'config.yaml':
      return place('setting of the gateway', undefined, path);
    case 'otel-collector.yaml':
      return inCollector(path);
  }
}

/** What apisix.yaml calls its lists, and what their items are. */
const ITEMS: Readonly<Record<string, string>> = {
  services: 'service',
  routes: 'route',
  consumers: 'client',
  plugin_metadata: 'metadata of plugin',
  secrets: 'secret manager',
  upstreams: 'upstream',
  global_rules: 'global rule',
  plugin_configs: 'plugin config',
  consumer_groups: 'consumer group',
  ssls: 'certificate',
  protos: 'proto',
  stream_routes: 'stream route',
};

const CREDENTIALS = '/credentials/';

function inApisix(path: readonly string[]): ObjectPlace {
  const [list, id, ...rest] = path;
  if (list === undefined || id === undefined) return place('document', 'apisix.yaml', path);
  if (list === 'services' && rest[0] === 'plugins' && rest[1] !== undefined)
    return inPlugin(id, rest[1], rest.slice(2));
  if (list === 'consumers' && id.includes(CREDENTIALS)) {
    const [client = '', credential = ''] = id.split(CREDENTIALS);
    return part(place('client', client, [`credential ${credential}`, ...rest]));
  }
  return Object.hasOwn(ITEMS, list)
    ? place(ITEMS[list] ?? list, id, rest)
    : place('document', 'apisix.yaml', path);
}

/** The service that all AI routes share: its plugins are the gateway's. */
const THE_SERVICE = 'azure-openai';

function inPlugin(service: string, plugin: string, path: readonly string[]): ObjectPlace {
  const [list, item, ...rest] = path;
  const named = (name: string) => (service === THE_SERVICE ? name : `${name} of service ${service}`);
  if (item !== undefined) {
    if (plugin === 'ai-proxy-multi' && list === 'instances') return place('backend', named(item), rest);
    if (plugin === 'azure-openai-proxy' && list === 'backends')
      return part(place('backend', named(item), rest));
    if (list === 'rules') {
      if (plugin === 'ai-rate-limiting') return place('token limit', named(item), rest);
      if (plugin === 'limit-count') return place('request limit', named(item), rest);
    }
  }
  return place('plugin', named(plugin), path);
}

const SECTIONS: Readonly<Record<string, string>> = {
  receivers: 'receiver',
  processors: 'processor',
  exporters: 'exporter',
  extensions: 'extension',
  connectors: 'connector',
};

function inCollector(path: readonly string[]): ObjectPlace {
  const [section, id, ...rest] = path;
  if (section !== undefined && id !== undefined) {
    if (section === 'service' && id === 'pipelines' && rest[0] !== undefined)
      return place('collector pipeline', rest[0], rest.slice(1));
    if (section === 'processors' && rest[0] === 'transforms' && rest[1] !== undefined)
      return place('collector price', rest[1], rest.slice(2));
    if (Object.hasOwn(SECTIONS, section)) return place(`collector ${SECTIONS[section]}`, id, rest);
  }
  return place('collector', undefined, path);
}
