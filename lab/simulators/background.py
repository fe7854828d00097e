"""uvicorn serves an ASGI application in a thread of this process, on a port that is known before it starts."""

import asyncio
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

START_TIMEOUT_S = 60.0


class _Announcing(uvicorn.Server):
    """Sets an event once it accepts connections, so that no caller has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Also abort the connections of callers that hang, so that no socket outlives its event loop."""
        await super().shutdown(sockets=sockets)
        for connection in list(self.server_state.connections):
            if (transport := connection.transport) is not None:
                transport.abort()
        for _ in range(2):  # the loop's next round ends the connection and closes its socket
            await asyncio.sleep(0)


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """Settings shared by the in-process and the stand-alone server.

    The application writes its own Date header, because its clock may be skewed on purpose.
    """
    return uvicorn.Config(
        app,
        access_log=False,
        date_header=False,
        server_header=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket; port 0 lets the system choose a free one.

    Raises:
        OSError: the port is taken or the address is not ours.
    """
    return socket.create_server((host, port), backlog=128)


class BackgroundServer:
    """Context manager: `with BackgroundServer(app) as server: httpx.get(server.url)`."""

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = listen(host, port)
        self._server = _Announcing(uvicorn_config(app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="simulator", daemon=True
        )
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """`http://host:port`, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start the server. Return when it accepts connections.

        Raises:
            TimeoutError: the server did not start within 60 s.
        """
        self._thread.start()
        if not self._server.accepting.wait(START_TIMEOUT_S):
            self.stop()
            raise TimeoutError(f"The simulator on port {self.port} did not start within {START_TIMEOUT_S:g} s")

    def stop(self) -> None:
        """Close the listener and wait for the thread to end."""
        self._server.should_exit = True
        # Without it, an answer that is slow on purpose would delay the end of a test.
        self._server.force_exit = True
        self._thread.join(START_TIMEOUT_S)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
