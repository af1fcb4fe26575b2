/**
 * Requests that start a realtime session: ephemeral keys, and WebRTC calls. The sessions themselves are not
 * implemented.
 */
import { randomBytes } from 'node:crypto';
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, Refused } from './call.ts';
import { collection, newId } from './collections.ts';
import { field, form } from './form.ts';
import { DEFAULT_COMPLETION_TOKENS } from './text.ts';

const EXPIRES_S = 600;

export function createSecret({ json, stores }: Call): Behaviour {
  const session = (json.session ?? {}) as Json;
  const { seconds } = (json.expires_after ?? {}) as { readonly seconds?: unknown };
  const value = `ek_${randomBytes(DEFAULT_COMPLETION_TOKENS).toString('hex')}`;
  const secret = {
    value,
    expires_at: nowSeconds() + (typeof seconds === 'number' ? seconds : EXPIRES_S),
    session: {
      type: 'realtime',
      object: 'realtime.session',
      id: newId('sess'),
      ...session,
      expires_at: 0,
    },
  };
  stores.secrets.set(value, secret);
  return { body: secret };
}

const unauthorized = (): Behaviour => ({
  status: 401,
  body: { error: { code: 'Unauthorized', message: 'This operation requires ephemeral authentication.' } },
});

const calls = collection('realtime.call', 'rtc', () => ({}), { metadata: false });

/** The offer is the body, or `sdp` of a form. The key must be an ephemeral key of this resource. */
export function createCall(call: Call): Behaviour {
  const { bearer = '', stores, contentType, body } = call;
  const secret = stores.secrets.get(bearer);
  if (!secret || Number(secret.expires_at) <= nowSeconds()) throw new Refused(unauthorized());
  const isForm = /^multipart\//i.test(contentType);
  const offer = isForm ? (field(form(call, 'sdp'), 'sdp') ?? '') : body.toString('utf8');
  if (!offer.startsWith('v=0')) {
    return {
      status: 400,
      body: { error: { message: 'The SDP offer is invalid.', type: 'invalid_request_error' } },
    };
  }
  const { id } = calls.keep(call, [], {});
  return {
    status: 201,
    headers: { 'Content-Type': 'application/sdp', Location: `/openai/v1/realtime/calls/${id}` },
    body: offer.replace(/a=setup:actpass/g, 'a=setup:active'),
  };
}

export function hangUp(call: Call, id = ''): Behaviour {
  calls.remove(call, id);
  return { status: 200, body: '' };
}
