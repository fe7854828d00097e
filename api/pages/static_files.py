"""Styles and scripts of the pages. Their addresses hold a hash of their content, so browsers may keep them for good."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from panel.records.public import Place

router = APIRouter(include_in_schema=False)

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is served. ``version``: a part of the hash of its content."""

    content: bytes
    media_type: str
    version: str


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    return StaticFile(content, TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


FILES = {
    path.name: _read(path) for path in sorted((Path(__file__).parent / "static").iterdir()) if path.suffix in TYPES
}


def address_of(name: str) -> str:
    """The address of a file of this version, for a browser. Raises KeyError."""
    return f"{Place.root}/static/{FILES[name].version}/{name}"


@router.get("/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    """One file. An address of another version leads nowhere, so nothing is kept under a wrong address."""
    file = FILES.get(name)
    if file is None or file.version != version:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(file.content, media_type=file.media_type, headers=headers)
