// A client of panel-sync for a main site in TypeScript: one file, no dependencies, Node 18 or newer (global fetch).
//
// Every call has an idempotency key, so a retry does nothing twice. Only types need to be stripped to run it as
// JavaScript: `node --experimental-strip-types`, or any bundler.

import { randomUUID } from 'node:crypto';

export const VERSION = '0.1.0';

export type Action = 'create' | 'update' | 'delete';
export type Status = 'creating' | 'running' | 'stopped' | 'suspended' | 'error';
export type Hypervisor = 'proxmox' | 'vmware' | 'hyperv' | 'kvm' | 'xen';
export type GuestType = 'qemu' | 'lxc';
export type OperationState = 'queued' | 'applied' | 'superseded' | 'rejected' | 'dead';

interface OptionalFields {
  hypervisor?: Hypervisor;
  order_id?: string | number;
  cluster?: string; // together with vmid
  vmid?: number;
  node?: string;
  guest_type?: GuestType;
  ip_address?: string;
  ip6_address?: string;
}

interface Plan {
  user_id: number; // the panel's id of the customer
  name: string;
  cpu: number; // cores
  ram: number; // MB
  disk: number; // GB
  os: string;
}

/** What a create needs, and what it may say. */
export interface NewVps extends Plan, OptionalFields {
  status?: Status;
}

/** What an update needs: `status`, and `id` or `order_id`. The other fields are changed if they are given. */
export interface ChangedVps extends Partial<Plan>, OptionalFields {
  status: Status;
  id?: number;
}

/** What a delete needs: `id` or `order_id`. */
export interface NamedVps {
  id?: number;
  order_id?: string | number;
}

/** One call of a batch. Without `idempotency_key` the client gives it one. */
export type Item = { idempotency_key?: string } & (
  | { action: 'create'; vps: NewVps }
  | { action: 'update'; vps: ChangedVps }
  | { action: 'delete'; vps: NamedVps }
);

/** A VPS as the panel records it. Times are as in RFC 3339. */
export interface Vps extends Plan {
  id: number;
  status: Status;
  hypervisor: Hypervisor;
  ip_address: string | null;
  ip6_address: string | null;
  order_id: string | null;
  order_state: string;
  power_state: string;
  created_at: string;
  updated_at: string;
}

/** The operation of an accepted call. */
export interface OperationRef {
  id: number;
  state: OperationState;
  url: string;
}

/** An operation, looked up. */
export interface Operation extends OperationRef {
  action: string;
  vps_id: number;
  attempts: number;
  result: string | null;
  why: string | null;
  accepted_at: string;
  applied_at: string | null;
}

/** A call that was accepted. `vps.id` is final. */
export interface Answer {
  status: 'success';
  message: string;
  vps: Vps;
  operation: OperationRef;
}

/** An operation and its record, null while it is not written. */
export interface OperationAnswer {
  operation: Operation;
  vps: Vps | null;
}

/** An item that was accepted. */
export interface AcceptedItem extends Answer {
  http_status: 200 | 201 | 202;
  idempotency_key: string;
  idempotent_replayed?: boolean;
}

/** An item that was not: `code` is for programs, `message` for people. */
export interface RefusedItem {
  http_status: number;
  idempotency_key: string;
  status?: number;
  code: string;
  message: string;
  field?: string;
  missing?: string[];
  request_id?: string | null;
  retry_after?: number;
  idempotent_replayed?: boolean;
}

export type ItemResult = AcceptedItem | RefusedItem;

/** Whether an item was accepted. */
export function isAccepted(result: ItemResult): result is AcceptedItem {
  return result.http_status < 300;
}

type Json = Record<string, any>; // what the panel answers; the methods name its type

/**
 * The panel did not do what was asked. No text of it holds the API key.
 *
 * `code` is for programs: the panel's own, or `network`, `no_answer`, `still_queued` or `not_panel` of this client.
 * `idempotencyKey`: pass it to the same method to try the same call again. `outcomeUnknown`: whether the call may have
 * been accepted all the same.
 */
export class PanelError extends Error {
  readonly code: string;
  readonly status: number | undefined;
  readonly field: string | undefined;
  readonly missing: string[];
  readonly operation: Partial<Operation> | undefined;
  readonly requestId: string | undefined;
  idempotencyKey: string | undefined;
  outcomeUnknown = false;

  constructor(message: string, code: string, status?: number, body: Json = {}) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.status = status;
    this.field = body.field;
    this.missing = body.missing ?? [];
    this.operation = body.operation;
    this.requestId = body.request_id;
  }
}

/** The call is wrong (400, 413, 415, 422): `field` or `missing` says where. It changed nothing. */
export class InvalidCallError extends PanelError {}

/** The API key is wrong (401, 403). */
export class InvalidKeyError extends PanelError {}

/** The VPS or operation does not exist, or the VPS is deleted (404). */
export class NotFoundError extends PanelError {}

/** The call was accepted but could not be applied (409): `operation` says why. Only with `waitSeconds`. */
export class NotAppliedError extends PanelError {}

/** The panel could not be reached or could not answer (429, 5xx), and the time for retries is over. */
export class UnavailableError extends PanelError {}

/** What answered is not the panel: a redirect, a page of a proxy, another service. */
export class BadAnswerError extends PanelError {}

export interface ClientOptions {
  /** How long one attempt may take; longer than the panel's ANSWER_WITHIN_S (2 s). 10 if it is not given. */
  timeoutSeconds?: number;
  /** How long one call is retried, from its beginning. 60 if it is not given. */
  retryForSeconds?: number;
}

export interface CallOptions {
  /** A key of your own, or that of a PanelError, instead of a fresh one. */
  idempotencyKey?: string;
  /** How long to wait until the call is applied. */
  waitSeconds?: number;
}

interface Reply {
  status: number; // 0: no answer, and `body` says why
  body: Json; // empty if it was no JSON object
  retryAfter: number;
  unknown: boolean; // whether the call may be accepted
}

const SYNC = '/api/vps/sync';
const MAX_ITEMS = 1000; // of one batch request, as the panel limits it
const MAX_BYTES = 1024 * 1024;
const RETRIED = new Set([0, 429, 502, 503, 504]);
const REFUSALS: Record<number, typeof PanelError> = {
  400: InvalidCallError,
  401: InvalidKeyError,
  403: InvalidKeyError,
  404: NotFoundError,
  409: NotAppliedError,
  413: InvalidCallError,
  415: InvalidCallError,
  422: InvalidCallError,
};
const NOT_SENT = { http_status: 503, code: 'not_sent', message: 'Not sent: an item before it could not be taken' };

/** The panel, as the main site calls it. Redirects are not followed. */
export class PanelClient {
  #root: string;
  #key: string;
  #timeout: number;
  #retryFor: number;

  /** `url`: the panel's address, with a path if it stands behind one. */
  constructor(url: string, apiKey: string, options: ClientOptions = {}) {
    const address = new URL(url);
    if (!/^https?:$/.test(address.protocol) || address.username || address.search) {
      throw new TypeError('url must be http://host or https://host, with a port and a path if needed, without a key');
    }
    if (!/^[\x21-\x7e]+$/.test(apiKey)) {
      throw new TypeError('apiKey must be visible ASCII without spaces and line breaks'); // fetch would quote it
    }
    this.#root = address.origin + address.pathname.replace(/\/+$/, '');
    this.#key = apiKey;
    this.#timeout = (options.timeoutSeconds ?? 10) * 1000;
    this.#retryFor = (options.retryForSeconds ?? 60) * 1000;
  }

  /** Announce a new VPS. The id in the answer is final. */
  create(vps: NewVps, options: CallOptions = {}): Promise<Answer> {
    return this.#call('create', vps, options);
  }

  /** Change a VPS. */
  update(vps: ChangedVps, options: CallOptions = {}): Promise<Answer> {
    return this.#call('update', vps, options);
  }

  /** End a VPS. To delete one that is deleted already succeeds. */
  delete(vps: NamedVps, options: CallOptions = {}): Promise<Answer> {
    return this.#call('delete', vps, options);
  }

  /**
   * Send any number of calls, in their order, 1,000 a request. Resolves to a result for each, in the same order.
   *
   * A refused item stops no other. Items that the panel could not take yet are sent again, for `retryForSeconds` a
   * request. If they still cannot be taken, nothing after them is sent: their results are 503, or tell the error.
   * Rejects with a PanelError only if no item was answered and none can have been accepted.
   */
  async batch(items: Iterable<Item>): Promise<ItemResult[]> {
    const calls = [...items].map((item) => ({ ...item, idempotency_key: item.idempotency_key || randomUUID() }));
    const bodies = calls.map((call) => JSON.stringify(call));
    const results: Json[] = [];
    let left: Json = NOT_SENT;
    for (const [start, end] of parts(bodies)) {
      let part: Json[];
      try {
        part = await this.#batchPart(bodies.slice(start, end));
      } catch (error) {
        if (!(error instanceof PanelError) || (results.length === 0 && !error.outcomeUnknown)) throw error;
        const code = error.outcomeUnknown ? 'outcome_unknown' : error.code;
        left = { http_status: error.status ?? 503, code, message: error.message };
        break;
      }
      results.push(...part);
      if (part.some((result) => RETRIED.has(result.http_status))) break;
    }
    return calls.map(
      (call, index) => ({ ...(results[index] ?? left), idempotency_key: call.idempotency_key }) as ItemResult,
    );
  }

  /** Look an operation up. */
  operation(id: number): Promise<OperationAnswer> {
    return this.#send('GET', `${SYNC}/operations/${id}`) as Promise<OperationAnswer>;
  }

  /** Look an operation up until it is no longer queued. Rejects with UnavailableError (`still_queued`). */
  async waitForOperation(id: number, timeoutSeconds = 30): Promise<OperationAnswer> {
    const until = performance.now() + timeoutSeconds * 1000;
    for (let pause = 200; ; pause = Math.min(1.5 * pause, 2000)) {
      const found = await this.operation(id);
      if (found.operation.state !== 'queued') return found;
      if (performance.now() + pause > until) {
        throw new UnavailableError(`Operation ${id} is still queued`, 'still_queued');
      }
      await sleep(pause);
    }
  }

  /** The live record of an order, for a main site that kept no id of the panel. */
  async findByOrder(orderId: string | number): Promise<Vps | null> {
    const found = await this.#send('GET', `${SYNC}/records?${new URLSearchParams({ order_id: String(orderId) })}`);
    return found.data[0] ?? null;
  }

  #call(action: Action, vps: object, options: CallOptions): Promise<Answer> {
    const headers: Record<string, string> = { 'Idempotency-Key': options.idempotencyKey || randomUUID() };
    const wait = Math.trunc(options.waitSeconds ?? 0);
    if (wait > 0) headers.Prefer = `wait=${wait}`;
    return this.#send('POST', SYNC, JSON.stringify({ action, vps }), headers, wait * 1000) as Promise<Answer>;
  }

  /** One request's results, after sending those items again that were not taken. */
  async #batchPart(bodies: string[]): Promise<Json[]> {
    const until = performance.now() + this.#retryFor;
    let waiting = bodies.map((_, index) => index);
    const results: Json[] = [];
    for (let attempt = 0; ; attempt++) {
      const body = `{"items":[${waiting.map((index) => bodies[index]).join(',')}]}`;
      let answered: Json[];
      try {
        answered = (await this.#send('POST', `${SYNC}/batch`, body, {}, 0, until)).items;
      } catch (error) {
        if (!(error instanceof PanelError) || results.length === 0) throw error;
        if (error.outcomeUnknown) {
          // What was told of these items may be untrue by now.
          const lost = { http_status: 503, code: 'outcome_unknown', message: error.message };
          for (const index of waiting) results[index] = lost;
        }
        return results;
      }
      waiting.forEach((index, at) => (results[index] = answered[at]));
      waiting = waiting.filter((index) => RETRIED.has(results[index].http_status));
      const asked = Math.max(0, ...waiting.map((index) => results[index].retry_after ?? 0));
      if (waiting.length === 0 || !(await paused(attempt, asked, until))) return results;
    }
  }

  /** The JSON of a successful answer, after as many attempts as it takes until then. */
  async #send(
    method: string,
    path: string,
    body?: string,
    headers: Record<string, string> = {},
    wait = 0,
    until = performance.now() + this.#retryFor + wait,
  ): Promise<Json> {
    const requestId = randomUUID();
    let unknown = false;
    for (let attempt = 0; ; attempt++) {
      const reply = await this.#attempt(method, path, body, { ...headers, 'X-Request-Id': requestId }, wait);
      if (reply.status >= 200 && reply.status < 300 && Object.keys(reply.body).length > 0) return reply.body;
      unknown = body !== undefined && (unknown || reply.unknown);
      if (!mayBeRetried(reply) || !(await paused(attempt, reply.retryAfter, until))) {
        throw errorOf(reply, requestId, headers['Idempotency-Key'], unknown);
      }
    }
  }

  async #attempt(
    method: string,
    path: string,
    body: string | undefined,
    headers: Record<string, string>,
    wait: number,
  ): Promise<Reply> {
    const sent: Record<string, string> = {
      ...headers,
      'X-API-Key': this.#key,
      'User-Agent': `panel-sync-client-typescript/${VERSION}`,
    };
    if (body !== undefined) sent['Content-Type'] = 'application/json';
    try {
      const signal = AbortSignal.timeout(this.#timeout + wait);
      const response = await fetch(this.#root + path, { method, headers: sent, body, redirect: 'manual', signal });
      return replyOf(response.status, response.headers.get('retry-after') ?? '', await response.text());
    } catch (error) {
      // fetch hides the fault of the connection in the cause of its error.
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name;
      const why = { code: 'network', message: `${new URL(this.#root).host} gave no answer: ${cause}` };
      // The next attempt would find the same certificate.
      if (/CERT|UNABLE_TO/.test(cause)) throw new UnavailableError(why.message, why.code);
      return { status: 0, body: why, retryAfter: 0, unknown: !NOT_CONNECTED.has(cause) };
    }
  }
}

const NOT_CONNECTED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Where each request's items begin and end: as many as it may hold. */
function* parts(bodies: string[]): Generator<[number, number]> {
  let start = 0;
  let size = 0;
  for (const [index, body] of bodies.entries()) {
    const bytes = new TextEncoder().encode(body).length + 1;
    if (index > start && (index - start === MAX_ITEMS || size + bytes > MAX_BYTES - 64)) {
      yield [start, index];
      start = index;
      size = 0;
    }
    size += bytes;
  }
  if (bodies.length > 0) yield [start, bodies.length];
}

/**
 * Wait before the next attempt: twice as long each time, and as long as the panel asks (seconds). With jitter, so that
 * callers do not come back all at once. False: no time is left.
 */
async function paused(attempt: number, asked: number, until: number): Promise<boolean> {
  const own = (0.5 + 0.5 * Math.random()) * Math.min(0.5 * 2 ** attempt, 20);
  const pause = 1000 * Math.max(asked * (1 + 0.25 * Math.random()), own);
  if (performance.now() + pause >= until) return false;
  await sleep(pause);
  return true;
}

function mayBeRetried(reply: Reply): boolean {
  return RETRIED.has(reply.status) || reply.body.code === 'idempotency_key_in_flight'; // of an earlier attempt
}

function replyOf(status: number, after: string, text: string): Reply {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = null;
  }
  const body: Json = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? parsed : {};
  const garbled = status < 300 && Object.keys(body).length === 0;
  const unknown = [500, 502, 504].includes(status) || body.code === 'outcome_unknown' || garbled;
  return { status, body, retryAfter: /^\d+$/.test(after) ? Number(after) : 0, unknown };
}

/** What a failed reply throws. A refusal by the panel says that an earlier attempt was not accepted either. */
function errorOf(reply: Reply, requestId: string, key: string | undefined, unknown: boolean): PanelError {
  const later = mayBeRetried(reply) || reply.status >= 500;
  let kind: typeof PanelError = later ? UnavailableError : (REFUSALS[reply.status] ?? BadAnswerError);
  let { code, message } = reply.body;
  if (typeof code !== 'string' || typeof message !== 'string') {
    if (!later) kind = BadAnswerError;
    code = later ? 'no_answer' : 'not_panel';
    message = `HTTP ${reply.status} without an answer of the panel`;
  }
  const error = new kind(message, code, reply.status || undefined, { request_id: requestId, ...reply.body });
  error.idempotencyKey = key;
  error.outcomeUnknown = unknown && (kind === UnavailableError || kind === BadAnswerError);
  return error;
}
