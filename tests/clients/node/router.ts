// As much of an Express router as the shop's routes use, over node:http alone.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export interface ShopRequest {
  body: any; // what the shop's own front end sends; its routes know the shape
}

export class ShopResponse {
  #raw: ServerResponse;

  constructor(raw: ServerResponse) {
    this.#raw = raw;
  }

  status(code: number): this {
    this.#raw.statusCode = code;
    return this;
  }

  json(body: unknown): void {
    this.#raw.setHeader('Content-Type', 'application/json');
    this.#raw.end(JSON.stringify(body));
  }
}

type Handler = (req: ShopRequest, res: ShopResponse) => Promise<void>;

export class Router {
  #handlers = new Map<string, Handler>();

  post(path: string, handler: Handler): void {
    this.#handlers.set(`POST ${path}`, handler);
  }

  listen(port: number): Server {
    return createServer((raw, answer) => void this.#handle(raw, new ShopResponse(answer))).listen(port, '127.0.0.1');
  }

  async #handle(raw: IncomingMessage, res: ShopResponse): Promise<void> {
    const handler = this.#handlers.get(`${raw.method} ${raw.url}`);
    if (handler === undefined) {
      res.status(404).json({ success: false, message: 'Not found' });
      return;
    }
    let text = '';
    for await (const chunk of raw.setEncoding('utf8')) text += chunk;
    await handler({ body: JSON.parse(text) }, res);
  }
}
