"""A Redis that can refuse everything with an error of the test's choice, and then be well again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.stand_ins.served import served


@dataclass(slots=True)
class RefusingRedis:
    """``error``: what it answers to every command (``READONLY You can't write``) but ``but``, or None. Set from any
    thread."""

    port: int = 0
    error: str | None = None
    but: frozenset[bytes] = frozenset()
    refused: int = 0


@contextlib.contextmanager
def refusing_redis(target_port: int) -> Iterator[RefusingRedis]:
    """In front of a real Redis on that port, until the block ends."""
    stand_in = RefusingRedis()

    async def command(reader: asyncio.StreamReader) -> bytes:
        """One command as it came: an array of strings, each with its length."""
        head = await reader.readline()
        if not head:
            raise ConnectionResetError
        parts = [head]
        for _ in range(int(head[1:])):
            length = await reader.readline()
            parts += [length, await reader.readexactly(int(length[1:]) + 2)]
        return b"".join(parts)

    async def answers(back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await back.read(65_536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", target_port)
        answering = asyncio.create_task(answers(back, writer))
        try:
            while True:
                asked = await command(reader)
                if stand_in.error is None or asked.split(b"\r\n", 3)[2].upper() in stand_in.but:
                    forth.write(asked)
                    await forth.drain()
                else:
                    stand_in.refused += 1
                    writer.write(f"-{stand_in.error}\r\n".encode())
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            answering.cancel()
            forth.close()
            writer.close()

    with served("refusing-redis", serve) as stand_in.port:
        yield stand_in
