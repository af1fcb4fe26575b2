/** Finds typical mistakes in a value, for any setting, to give a better message than "not usable". Pure. */
import { unusualCharacter } from './suggest.ts';

export interface Mistake {
  /** Completes "the value is not usable: …". */
  readonly issue?: string;
  /** The advice, alone or in addition to the suggestion. */
  readonly fix?: string;
  /** The value that the user probably meant. */
  readonly suggestion?: string;
}

/** Variables in the syntax of shells, Compose, Terraform, pipelines and templates. */
const VARIABLES =
  /\$\{\{.*?\}\}|\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*?\}\}|%[A-Za-z_]\w*%|#\{[^{}]*\}#?|<%=?.*?%>|\$env:\w+|@Microsoft\.KeyVault\(|\[\s*(?:variables|parameters)\(|\bvar\.[a-z_]+\b|^\$[A-Za-z_]\w*$|^__[A-Za-z]\w*__$/;

/** Placeholders that samples use for a value of the user's own. */
const PLACEHOLDER =
  /<[^<>]*>|\b(?:your|insert|enter|put)[-_ ]|\breplace[-_ ]?(?:with|me|this)\b|\breplace[-_]with[-_]|\bchange[-_ ]?(?:me|this)\b|\bx{4,}\b|\bplaceholder\b|\bto[-_ ]?do\b|\bfill[-_ ]?(?:in|me)\b|\.\.\.|…|\*{3,}/i;

/** Whether a value is or contains an unexpanded variable. */
export const isUnexpanded = (value: string): boolean => VARIABLES.test(value);

/** Whether a text is a placeholder. */
export const isPlaceholder = (value: string): boolean => PLACEHOLDER.test(value);

const UNEXPANDED: Mistake = {
  issue: 'it is a variable that was not expanded',
  fix: 'write the value itself: genai-gateway and docker --env-file do not expand variables in env files',
};

/** The mistake in an invalid value; undefined if it is unknown. */
export function mistakeIn(value: string): Mistake | undefined {
  if (isUnexpanded(value)) return UNEXPANDED;
  if (isPlaceholder(value)) return { issue: 'it is a placeholder', fix: 'write your own value instead' };
  return undefined;
}

const RESOURCE = 'https://NAME.openai.azure.com';

/** Hosts that are certainly not those of an Azure OpenAI resource, and what to write instead. */
const OTHER_HOSTS: readonly (readonly [RegExp, Mistake])[] = [
  [
    /^(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)$/i,
    {
      issue: 'the name of the resource is missing at the beginning of the host',
      fix: `write the endpoint of your resource, such as ${RESOURCE}`,
    },
  ],
  [
    /^(?:(?:api|platform|chat|www)\.)?openai\.com$/i,
    {
      issue: 'it is an address of OpenAI, and the gateway calls only Azure OpenAI resources',
      fix: `write the endpoint of an Azure OpenAI resource, such as ${RESOURCE}`,
    },
  ],
  [
    /^(?:(?:ms\.)?portal|ai|oai)\.azure\.(?:com|us|cn)$/i,
    {
      issue: 'it is the address of a portal, not of a resource',
      fix: `copy the endpoint that the portal shows for your resource, such as ${RESOURCE}`,
    },
  ],
  [
    /^models\.(?:inference\.ai\.azure\.com|github\.ai)$/i,
    {
      issue: 'it is the address of GitHub Models, and the gateway calls only Azure OpenAI resources',
      fix: `write the endpoint of an Azure OpenAI resource, such as ${RESOURCE}`,
    },
  ],
];

/** The mistake in the host of an endpoint; undefined if the host may be right. */
export function mistakeInHost(host: string): Mistake | undefined {
  const found = OTHER_HOSTS.find(([pattern]) => pattern.test(host))?.[1];
  if (found) return found;
  const [, resource = ''] = /^([a-z0-9-]+)\.openai\.com$/i.exec(host) ?? [];
  if (resource === '') return undefined;
  return {
    issue: 'the host is spelt almost like that of an Azure resource',
    suggestion: `https://${resource}.openai.azure.com`,
  };
}

const SCHEME = /^(?:h?t?tt?ps?|wss?|ftps?|grpcs?|[a-z]{2,8}):?\/{1,3}(?=[^/])|^https?:(?=\w)|^[a-z]+:\\\\/i;
const HOST = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?::\d{1,5})?(?:[/?#]\S*)?$/i;

/** The characters around a URL that was copied from a text. */
const ENCLOSED = /^[<(['"`“‘]*(.*?)[>)\]'"`”’.]*$/;

/** Whether a text is a URL, or a host name with a dot. */
const isAddress = (text: string) => HOST.test(text.replace(/^[a-z]{2,6}:\/\//i, ''));

/**
 * The mistake in an invalid URL.
 * @param isUsable whether a text is a valid value, so that it can be suggested
 */
export function mistakeInUrl(value: string, isUsable: (text: string) => boolean): Mistake {
  const suggest = (issue: string, text: string): Mistake =>
    isUsable(text) ? { issue, suggestion: text } : { issue };
  const bare = value.replace(ENCLOSED, '$1');
  if (bare !== value && isUsable(bare))
    return suggest('it has brackets, quotes or a full stop around it', bare);
  // A host contains no $, so a $ is a variable also inside a URL.
  const found = mistakeIn(value) ?? (/\$[A-Za-z_]/.test(value) ? UNEXPANDED : undefined);
  if (found) return found;
  const unusual = unusualCharacter(value);
  if (unusual !== undefined) return suggest(`it holds ${unusual}`, value.replace(/[^\x21-\x7e]/g, ''));
  const [, before = '', host = '', after = ''] = /^(https?:\/\/)([\w.-]+)(.*)$/i.exec(value) ?? [];
  if (host.includes('_'))
    return suggest('the host has an underscore', `${before}${host.replaceAll('_', '-')}${after}`);
  const [, twice = ''] = /^https?:\/\/(https?:\/\/.*)$/i.exec(value) ?? [];
  if (isUsable(twice)) return suggest('it has two schemes', twice);
  const parts = value.split(/[\s,;|]+/).filter((each) => each !== '');
  const [first = ''] = parts;
  if (parts.length > 1 && parts.every(isAddress)) {
    const fix = 'for a second resource set AZURE_OPENAI_ENDPOINT_N with the next free index';
    return { ...suggest(`it contains ${parts.length} URLs`, first), fix };
  }
  if (parts.length === 1 && first !== value)
    return suggest('it ends with a comma or another separator', first);
  if (/\s/.test(value)) return { issue: 'it contains white space', fix: 'write the URL without white space' };
  if (/^(?:localhost|[a-z0-9.-]+(?=:\d))(?::\d{1,5})?(?:\/|$)/i.test(value) && !/\.azure\./i.test(value))
    return suggest('the scheme is missing', `http://${value}`);
  if (HOST.test(value)) return suggest('the scheme is missing', `https://${value}`);
  const scheme = SCHEME.exec(value)?.[0];
  const rest = scheme === undefined ? '' : value.slice(scheme.length).replaceAll('\\', '/');
  if (scheme !== undefined && !/^https?:\/\/$/i.test(scheme)) {
    const written = /^[a-z]+/i.exec(scheme)?.[0].toLowerCase() ?? '';
    return suggest(
      /^https?$/.test(written) ? `it has no :// after ${written}` : `the scheme is ${written}, not https`,
      `${written === 'http' ? 'http' : 'https'}://${rest}`,
    );
  }
  return { issue: 'it is not a full URL with scheme and host' };
}
