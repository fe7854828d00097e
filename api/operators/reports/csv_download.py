"""A report as a CSV file. It is made before its first byte is sent: a slow reader holds no connection to the database,
and a report that fails is an error instead of a file that ends early."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO

from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from api.dependencies import Edge
from api.operators.transactions import make_report
from panel.operators.reports.csv_lines import Writable, as_text

WITHIN_S = 60.0
"""How long the making of a file may take. A large fleet's takes seconds, which is longer than a read may take."""
IN_MEMORY = 1_000_000
"""Bytes of a file that stay in memory; a longer one goes to the temporary directory."""
CHUNK = 65_536

CSV = "text/csv; charset=utf-8"


async def csv_download(edge: Edge, name: str, write: Callable[[Connection, Writable], None]) -> Response:
    """The answer with the file that ``write`` makes. ``name``: of the report; the file's name has the date besides.
    Raises what ``make_report`` raises."""
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the answer closes it

    def work(connection: Connection) -> None:
        with as_text(file) as text:
            write(connection, text)

    try:
        await make_report(edge, work, WITHIN_S)
    except BaseException:  # also if the caller goes away
        file.close()
        raise
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{datetime.now(UTC):%Y-%m-%d}.csv"',
        "Content-Length": str(file.tell()),
        "Cache-Control": "no-store",
    }
    file.seek(0)
    return StreamingResponse(_chunks(file), media_type="text/csv", headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
