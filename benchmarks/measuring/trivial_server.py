"""A server that only answers, so that its caller meets its own limit: ``python -m ... call|guest`` prints its port."""

from __future__ import annotations

import select
import socket
import sys

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GUEST = (
    b'{"data":{"vmid":100,"name":"web-1","status":"running","qmpstatus":"running","uptime":40000000,"cpus":2,'
    b'"cpu":0.0123456789,"maxmem":4294967296,"mem":2147483648,"maxdisk":53687091200,"disk":0,"netin":123456789,'
    b'"netout":987654321,"diskread":123456789,"diskwrite":987654321,"ha":{"managed":0},"pid":4711}}'
)
ANSWERS = {"call": (b"202 Accepted", b'{"status":"success"}'), "guest": (b"200 OK", GUEST)}


def serve(status: bytes, body: bytes) -> None:
    """Answer each request that comes in one piece, for ever."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listening.getsockname()[1], flush=True)
    answer = HEAD % (status, len(body)) + body
    poll, connections = select.epoll(), dict[int, socket.socket]()
    poll.register(listening.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listening.fileno():
                connection = listening.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
            elif connections[fd].recv(65_536):
                connections[fd].sendall(answer)
            else:
                poll.unregister(fd)
                connections.pop(fd).close()


if __name__ == "__main__":
    serve(*ANSWERS[sys.argv[1]])
