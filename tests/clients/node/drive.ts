// The TypeScript client, driven by a test: what to do comes as JSON on the standard input, what came of it is printed.

import { inspect } from 'node:util';

import { PanelClient, PanelError } from '../../../clients/typescript/panel-sync-client.ts';

let text = '';
for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk;
const { url, key, options, steps } = JSON.parse(text);
const client: any = new PanelClient(url, key, options);

const told: object[] = [];
for (const { method, args } of steps) {
  try {
    told.push({ answer: await client[method](...args) });
  } catch (error) {
    if (!(error instanceof PanelError)) throw error;
    const { name: kind, message, code, field, missing, requestId, idempotencyKey, outcomeUnknown } = error;
    const shown = inspect(error, { depth: 9 }) + inspect(client, { depth: 9, showHidden: true });
    told.push({ error: { kind, message, code, field, missing, requestId, idempotencyKey, outcomeUnknown }, shown });
  }
}
console.log(JSON.stringify(told));
