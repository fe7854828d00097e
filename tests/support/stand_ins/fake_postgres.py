"""A server that speaks PostgreSQL's protocol just far enough to refuse everybody, in any language."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator

SSL_REQUEST, GSS_REQUEST = 80_877_103, 80_877_104


@contextlib.contextmanager
def refusing_postgres(sqlstate: str, severity: str, sentence: str) -> Iterator[int]:
    """Its port. Whoever connects is told that, before a session begins."""
    fields = b"".join(
        kind + value.encode() + b"\0"
        for kind, value in ((b"S", severity), (b"V", "FATAL"), (b"C", sqlstate), (b"M", sentence))
    )
    refusal = b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while True:
                head = self.rfile.read(8)
                if len(head) < 8:
                    return
                length, code = struct.unpack("!ii", head)
                if code in (SSL_REQUEST, GSS_REQUEST):
                    self.wfile.write(b"N")
                    continue
                self.rfile.read(length - 8)
                self.wfile.write(refusal)
                return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
