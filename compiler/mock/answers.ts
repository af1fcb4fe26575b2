/** Errors of Azure OpenAI, as behaviours by name. */
import { randomUUID } from 'node:crypto';
import type { Behaviour } from './behaviour.ts';
import { failedStream, throttledStream } from './refused-streams.ts';

export { failedStream, throttledStream };

export interface Throttling {
  /**
   * The set of headers. `a`: Retry-After and x-ratelimit-reset-*. `b`, December 2023: only x-rate-limit-reset-* (with
   * this spelling), and policy-id. `c`: only x-ratelimit-reset-*, and policy-id. `d`, November 2025: limits and
   * remainders of -1, a reset of 0. `e`: like `a`, with remainders below zero and the wording of 2025.
   */
  readonly era?: 'a' | 'b' | 'c' | 'd' | 'e';
  /** In seconds. Azure has sent values up to 86400. */
  readonly retryAfter?: number;
  readonly kind?: 'tokens' | 'requests';
  /** Azure's name of the called operation. The message has it in all eras except `c`. */
  readonly operation?: string;
  readonly apiVersion?: string;
  readonly deployment?: string;
  readonly region?: string;
}

/** The tokens or calls per minute of a Standard deployment are used up. */
export function throttled({
  era = 'a',
  kind = 'tokens',
  retryAfter = 33,
  operation = 'ChatCompletions_Create',
  apiVersion = '2024-08-01-preview',
  deployment = 'gpt-4o-mini',
  region = 'Sweden Central',
}: Throttling = {}): Behaviour {
  const limit = kind === 'tokens' ? 'token rate limit' : 'call rate limit';
  const classic = `Requests to the ${operation} Operation under Azure OpenAI API version ${apiVersion} have exceeded ${limit} of your current OpenAI S0 pricing tier. Please retry after ${retryAfter} seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.`;
  const recent = `Your requests to ${deployment} for ${deployment} in ${region} have exceeded the ${limit} for your current AIServices S0 pricing tier. This request was for ${operation} under Azure OpenAI API version ${apiVersion}. Please retry after ${retryAfter} seconds. To increase your default rate limit, visit: https://aka.ms/oai/quotaincrease.`;
  const seconds = String(retryAfter);
  const remaining = (tokens: string, requests: string) => ({
    'x-ratelimit-remaining-tokens': tokens,
    'x-ratelimit-remaining-requests': requests,
  });
  switch (era) {
    case 'a':
      return quotaExceeded(classic, { 'Retry-After': seconds, [`x-ratelimit-reset-${kind}`]: seconds });
    case 'b':
      return quotaExceeded(classic, {
        [`x-rate-limit-reset-${kind}`]: seconds,
        'policy-id': kind === 'tokens' ? 'DeploymentRatelimit-Token' : 'DeploymentRatelimit-Call',
        ...(kind === 'tokens' ? remaining('0', '29') : remaining('29960', '0')),
      });
    case 'c':
      return {
        status: 429,
        headers: {
          'Content-Type': 'application/json',
          [`x-ratelimit-reset-${kind}`]: seconds,
          'policy-id': kind === 'tokens' ? 'DeploymentRatelimit-Token' : 'DeploymentRatelimit-Call',
        },
        body: `{"error":{"code":"429","message": "Rate limit is exceeded. Try again in ${retryAfter} seconds."}}`,
      };
    case 'd':
      return quotaExceeded(recent, {
        [`x-ratelimit-limit-${kind}`]: '-1',
        [`x-ratelimit-remaining-${kind}`]: '-1',
        [`x-ratelimit-reset-${kind}`]: '0',
      });
    case 'e':
      return quotaExceeded(recent, {
        'Retry-After': seconds,
        [`x-ratelimit-reset-${kind}`]: seconds,
        ...(kind === 'tokens' ? remaining('-1460', '29') : remaining('29960', '-1')),
      });
    default:
      throw new RangeError(`era is ${String(era)}, not one of a, b, c, d, e`);
  }
}

const quotaExceeded = (message: string, headers: Readonly<Record<string, string>>): Behaviour => ({
  status: 429,
  headers,
  body: { error: { code: '429', message } },
});

/**
 * A provisioned deployment is fully used, often only for some tens of milliseconds. The answer has no x-ratelimit-*
 * headers.
 */
export function throttledPtu({ retryAfterMs = 43 }: { readonly retryAfterMs?: number } = {}): Behaviour {
  const seconds = Math.ceil(retryAfterMs / 1000);
  return quotaExceeded(
    `Requests to the ChatCompletions_Create Operation have exceeded the provisioned throughput of this deployment. Please retry after ${seconds} seconds.`,
    { 'retry-after-ms': String(retryAfterMs), 'Retry-After': String(seconds) },
  );
}

/** The region has no capacity left, independent of the quota. */
export const highDemand = ({ retryAfter = 20 }: { readonly retryAfter?: number } = {}): Behaviour =>
  quotaExceeded(
    `The system is currently experiencing high demand and cannot process your request. Your request exceeds the maximum usage size allowed during peak load. Please retry after ${retryAfter} seconds.`,
    { 'Retry-After': String(retryAfter) },
  );

/** The key is missing or does not belong to this resource. */
export const badKey = (): Behaviour => ({
  status: 401,
  body: {
    error: {
      code: '401',
      message:
        'Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.',
    },
  },
});

/** An Entra ID token is wrong or has expired. The body has no `error`. */
export const badToken = (): Behaviour => ({
  status: 401,
  body: {
    statusCode: 401,
    message:
      'Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.',
  },
});

/** The identity is valid but has no role on this resource. */
export const noPermission = (): Behaviour => ({
  status: 401,
  body: { error: { code: 'PermissionDenied', message: 'Principal does not have access to API/Operation.' } },
});

/** There is no deployment with the name in the path. */
export const deploymentNotFound = (): Behaviour => ({
  status: 404,
  body: {
    error: {
      code: 'DeploymentNotFound',
      message:
        'The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.',
    },
  },
});

/** There is no deployment with the name in the body (v1). */
export const modelNotFound = ({ status = 404 }: { readonly status?: 400 | 404 } = {}): Behaviour => ({
  status,
  body: {
    error: {
      message:
        'Could not find an existing deployment to match the model in the request. Please make sure that the deployment exists.',
      type: 'invalid_request_error',
      param: 'model',
      code: 'model_not_found',
    },
  },
});

/** A wrong path, or an api-version that is missing or retired. */
export const resourceNotFound = (): Behaviour => ({
  status: 404,
  body: { error: { code: '404', message: 'Resource not found' } },
});

/** @param detailed false: without the details that older versions do not give */
export function contentFiltered({ detailed = true }: { readonly detailed?: boolean } = {}): Behaviour {
  const safe = { filtered: false, severity: 'safe' };
  const innererror = {
    code: 'ResponsibleAIPolicyViolation',
    content_filter_result: {
      hate: safe,
      jailbreak: { filtered: false, detected: false },
      self_harm: safe,
      sexual: safe,
      violence: { filtered: true, severity: 'medium' },
    },
  };
  return modelError(400, {
    message:
      "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry. To learn more about our content filtering policies please read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766",
    type: null,
    param: 'prompt',
    code: 'content_filter',
    status: 400,
    ...(detailed ? { innererror } : {}),
  });
}

/** For example `stream_options` before the versions of autumn 2024, or `stream_options.include_usage` of responses. */
export const unknownParameter = (name = 'stream_options'): Behaviour =>
  invalidRequest(`Unknown parameter: '${name}'.`, name, 'unknown_parameter');

/** The input contains reasoning that another resource encrypted. */
export const invalidEncryptedContent = ({
  code = 'invalid_encrypted_content',
}: {
  readonly code?: string | null;
} = {}) => invalidRequest('The encrypted content gAAA... could not be verified.', null, code);

/** The result of the model's own validation of a request. */
export const invalidRequest = (message: string, param: string | null, code: string | null): Behaviour =>
  modelError(400, { message, type: 'invalid_request_error', param, code });

function modelError(status: number, error: object): Behaviour {
  return {
    status,
    headers: {
      'ms-azureml-model-error-reason': 'model_error',
      'ms-azureml-model-error-statuscode': String(status),
    },
    body: { error },
  };
}

/** The service gave up waiting for the model. */
export const timeout408 = (): Behaviour => ({
  status: 408,
  body: { error: { code: 'Timeout', message: 'The operation was timeout.' } },
});

/** A failure of the model (`model`), or of the service in front of it (`service`). */
export function serverError(variant: 'model' | 'service' = 'model'): Behaviour {
  if (variant === 'service') {
    return {
      status: 500,
      body: { statusCode: 500, message: 'Internal server error', activityId: randomUUID() },
    };
  }
  return modelError(500, {
    message: `The server had an error while processing your request. Sorry about that! You can retry your request, or contact us through an Azure support request at: https://go.microsoft.com/fwlink/?linkid=2213926 if you keep seeing this error. (Please include the request ID ${randomUUID()} in your email.)`,
    type: 'server_error',
    param: null,
    code: null,
  });
}

export type ErrorPage = 'json' | 'html' | 'empty';

/** Something between the front end and the model is broken. */
export const badGateway = (variant: ErrorPage = 'json'): Behaviour => errorPage(502, 'Bad Gateway', variant);

/** The resource or the model is down for now. */
export const unavailable = (variant: ErrorPage = 'json'): Behaviour =>
  errorPage(503, 'Service Unavailable', variant);

/** Something between the front end and the model did not answer in time. */
export const gatewayTimeout = (variant: ErrorPage = 'json'): Behaviour =>
  errorPage(504, 'Gateway Timeout', variant);

function errorPage(status: number, title: string, variant: ErrorPage): Behaviour {
  const body = {
    json: { error: { code: String(status), message: title } },
    html: `<html><head><title>${status} ${title}</title></head><body><center><h1>${status} ${title}</h1></center></body></html>`,
    empty: '',
  }[variant];
  if (body === undefined) throw new RangeError(`${String(variant)} is not one of json, html, empty`);
  return { status, body };
}

/** Answers by name. Some take an argument. */
export const ANSWERS = {
  throttled,
  throttledPtu,
  highDemand,
  badKey,
  badToken,
  noPermission,
  deploymentNotFound,
  modelNotFound,
  resourceNotFound,
  contentFiltered,
  unknownParameter,
  invalidEncryptedContent,
  timeout408,
  serverError,
  badGateway,
  unavailable,
  gatewayTimeout,
  throttledStream,
  failedStream,
} as const;

const OF_STATUS: Readonly<Record<number, () => Behaviour>> = {
  401: badKey,
  404: resourceNotFound,
  408: timeout408,
  429: throttled,
  500: serverError,
  502: badGateway,
  503: unavailable,
  504: gatewayTimeout,
};

/** The known answer of Azure for a status. */
export const answerOfStatus = (status: number): Behaviour | undefined => OF_STATUS[status]?.();
