// Verifies the requests that stand on stdin, as JSON; prints for each the type of its event, or why it is none.

import { readFileSync } from 'node:fs';

import { WebhookError, verifyWebhook } from '../../../clients/typescript/panel-webhooks.ts';

type Request = { body: string; headers: Record<string, string>; secret: string; now: number };

const requests = JSON.parse(readFileSync(0, 'utf8')) as Request[];
const told = requests.map(({ body, headers, secret, now }) => {
  try {
    return { event: verifyWebhook(body, headers, secret, now), asBytes: verifyWebhook(Buffer.from(body), headers, secret, now) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return error instanceof WebhookError ? { error: error.message } : { fault: error.message };
  }
});
console.log(JSON.stringify(told));
