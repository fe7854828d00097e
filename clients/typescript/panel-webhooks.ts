// Verifies the events that panel-sync sends to a main site: one file, no dependencies, Node 18 or newer.
//
// The events follow the Standard Webhooks specification, so its libraries verify them as well.

import { createHmac, timingSafeEqual } from 'node:crypto';

// How far `webhook-timestamp` may be from this machine's clock, so that nobody can send an old request again.
export const TOLERANCE_SECONDS = 300;

// Bytes. With an empty secret anybody could sign.
const SHORTEST_KEY = 24;

export type EventType =
  | 'vps.created'
  | 'vps.status_changed'
  | 'vps.updated'
  | 'vps.deleted'
  | 'vps.merged'
  | 'vps.restored'
  | 'vps.power_action_ended';

export interface PanelEvent {
  type: EventType;
  timestamp: string; // when it happened, RFC 3339
  data: {
    sequence: number; // keep the highest for each VPS; the vps beside a lower one is older than what you know
    vps: { id: number; user_id: number; order_id: string | null; status: string; [field: string]: unknown };
    before?: Record<string, unknown> | null;
    after?: Record<string, unknown>;
    action?: Record<string, unknown>;
    cause: { source: string; reason: string | null; [field: string]: unknown };
  };
}

/** The request is not from the panel, or is too old: answer 400 or 401, and do nothing. */
export class WebhookError extends Error {}

type Headers = Record<string, string | string[] | undefined>;

/**
 * The event of a request. `body`: as it arrived, to the byte; not parsed and written again. `headers`: with names in
 * lower case, as Node gives them. `secret`: `whsec_` and base64, as MAIN_SITE_WEBHOOK_SECRET of the panel. Throws
 * `WebhookError`; another `Error` if the secret itself is none, which is a fault of the main site's own settings.
 */
export function verifyWebhook(
  body: string | Uint8Array,
  headers: Headers,
  secret: string,
  nowSeconds: number = Date.now() / 1000,
): PanelEvent {
  const key = keyOf(secret);
  const [id, sentAt, signatures] = ['id', 'timestamp', 'signature'].map((name) => headers[`webhook-${name}`]);
  if (typeof id !== 'string' || typeof signatures !== 'string' || typeof sentAt !== 'string' || !/^\d+$/.test(sentAt)) {
    throw new WebhookError('a header is missing or wrong');
  }
  if (Math.abs(nowSeconds - Number(sentAt)) > TOLERANCE_SECONDS) {
    throw new WebhookError('it was sent too long ago, or a clock is wrong');
  }
  const expected = createHmac('sha256', key).update(`${id}.${sentAt}.`).update(body).digest();
  // There are two signatures while the secret is being changed.
  const right = signatures.split(' ').some((one) => {
    if (!one.startsWith('v1,')) return false;
    const signature = Buffer.from(one.slice(3), 'base64');
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  });
  if (!right) throw new WebhookError('no signature is right: another secret, or the body was changed');
  return JSON.parse(typeof body === 'string' ? body : Buffer.from(body).toString('utf8')) as PanelEvent;
}

function keyOf(secret: string): Buffer {
  const encoded = secret.replace(/^whsec_/, '');
  const key = Buffer.from(encoded, 'base64');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(encoded) || key.length < SHORTEST_KEY) {
    throw new Error('the secret is not set right: it must be whsec_ and at least 24 bytes in base64');
  }
  return key;
}
