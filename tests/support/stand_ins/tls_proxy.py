"""A server that speaks TLS only: TLS in front of a plain Redis or PostgreSQL of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from lab.simulators.proxmox.certificates import Certificates
from tests.support.stand_ins.served import served

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""How a client of PostgreSQL asks for TLS before it says anything else."""


@dataclass(slots=True)
class TlsProxy:
    """Where it listens, and how many handshakes were completed and refused."""

    port: int = 0
    completed: int = 0
    refused: int = 0


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def tls_proxy(target_port: int, certificates: Certificates, *, postgres: bool = False) -> Iterator[TlsProxy]:
    """TLS in front of that port until the block ends. ``postgres``: begun as PostgreSQL's clients begin it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    proxy = TlsProxy()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if postgres:
                if await reader.readexactly(8) != SSL_REQUEST:
                    return  # it would go on without TLS
                writer.write(b"S")
                await writer.drain()
            try:
                await writer.start_tls(context)
                # With TLS 1.3 the server is done before the client has looked at the certificate.
                first = await reader.read(1)
            except (OSError, ssl.SSLError):
                first = b""
            if not first:
                proxy.refused += 1
                return
            proxy.completed += 1
            back, forth = await asyncio.open_connection("127.0.0.1", target_port)
            try:
                forth.write(first)
                await asyncio.gather(_pipe(reader, forth), _pipe(back, writer))
            finally:
                forth.close()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    with served("tls-proxy", serve) as proxy.port:
        yield proxy
