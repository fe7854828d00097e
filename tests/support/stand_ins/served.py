"""A server of a test's own in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

from tests.support.waiting import PATIENCE_S

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def served(name: str, serve: Serve) -> Iterator[int]:
    """Serve each connection to a free port of the loopback, until the block ends. Yields the port."""
    loop, ended, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    clients: list[asyncio.WriteTransport] = []
    ports: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer.transport)  # the one below TLS, if the server starts TLS later
        await serve(reader, writer)

    async def listen() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for client in clients:  # closing waits for the other side's good-bye, which may never come
            client.abort()
        await asyncio.sleep(0)  # asyncio closes the sockets in its next turn

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(listen())

    thread = threading.Thread(target=run, name=name)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
