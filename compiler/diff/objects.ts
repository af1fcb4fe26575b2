/** Maps a path in a document to an object of the gateway and one of its fields. Pure. */
import type { DocumentName } from '../emit/emit.ts';

export interface ObjectPlace {
  /** The kind of object: `backend`, `client`, `plugin`. */
  readonly object: string;
  readonly name?: string;
  /** The rest of the path, with names that users know; empty: the object itself. */
  readonly field: string;
  /** The path is a further part of the object, in another place of the document. */
  readonly part?: true;
}

/** Names for fields whose path is not helpful. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  backend: { 'auth.header.api-key': 'key', 'override.endpoint': 'endpoint' },
  client: {
    key_file: 'key file',
    secondary_key: 'second key',
    secondary_key_file: 'second key file',
    tokens_per_minute: 'tokens a minute',
    tokens_per_day: 'tokens a day',
    requests_per_minute: 'requests a minute',
  },
  'setting of the gateway': {
    'apisix.ssl.ssl_trusted_certificate': 'trusted CA file',
    'nginx_config.error_log_level': 'log level',
    'nginx_config.http.access_log_format': 'access log format',
    'nginx_config.http.client_max_body_size': 'largest body',
    'nginx_config.http.real_ip_from': 'trusted proxies',
    'nginx_config.worker_processes': 'workers',
    'plugin_attr.prometheus.export_uri': 'metrics path',
    'plugin_attr.azure-openai-metrics.max_lines': 'metrics lines',
    'plugin_attr.azure-openai-metrics.max_bytes': 'metrics bytes',
    'nginx_config.meta.lua_shared_dict.prometheus-cache': 'memory for the metrics page',
    'nginx_config.http.lua_shared_dict.prometheus-metrics': 'memory for metric values',
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

/** The kind of object in each list of apisix.yaml. */
const ITEMS: Readonly<Record<string, string>> = {
  services: 'service',
  routes: 'route',
  clients: 'client',
  // Only in files that other tools wrote.
  consumers: 'consumer',
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

function inApisix(path: readonly string[]): ObjectPlace {
  const [list, id, ...rest] = path;
  if (list === undefined || id === undefined) return place('document', 'apisix.yaml', path);
  if (list === 'services' && rest[0] === 'plugins' && rest[1] !== undefined)
    return inPlugin(id, rest[1], rest.slice(2));
  return Object.hasOwn(ITEMS, list)
    ? place(ITEMS[list] ?? list, id, rest)
    : place('document', 'apisix.yaml', path);
}

/** The service whose plugins all AI routes share. */
const THE_SERVICE = 'azure-openai';

function inPlugin(service: string, plugin: string, path: readonly string[]): ObjectPlace {
  const [list, item, ...rest] = path;
  const named = (name: string) =>
    service === THE_SERVICE
      ? name
      : `${name} of ${service.replace(/^(?!pool-)/, 'service ').replace(/^pool-/, 'pool ')}`;
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
