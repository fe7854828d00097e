"""``GET /api/vps/events``: a stream of server-sent events that says when a record of the caller changed."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import openapi
from api.client.live_changes import LiveChanges, Stream, TooManyStreamsError
from api.dependencies import ClientOrCookie, EdgeOf
from api.http.problems import ProblemError

router = APIRouter(prefix="/api/vps", tags=["client"])

RETRY_AFTER_S = "30"


class EventStream(StreamingResponse):
    """The answer while it is open. However it ends, its stream is closed."""

    media_type = "text/event-stream"

    def __init__(self, live: LiveChanges, stream: Stream, left_s: float) -> None:
        # X-Accel-Buffering: nginx would otherwise keep events back until its buffer is full.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(live.messages(stream, left_s), headers=headers, media_type=self.media_type)
        self._live, self._stream = live, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.close(self._stream)


@router.get(
    "/events",
    summary="Hear when one of the caller's VPS changed",
    response_class=Response,
    responses=openapi.EVENT_RESPONSES,
)
async def events(edge: EdgeOf, caller: ClientOrCookie) -> Response:
    """Server-sent events. Each `vps-changed` means: read your VPS again. The first one comes within a second or two,
    because something may have changed before the stream was open. After 15 minutes the stream ends, or
    when the token or the session does; connect again."""
    try:
        stream = edge.live.open(caller.user_id)
    except TooManyStreamsError:
        message = "Too many streams are open; close one, or try again"
        raise ProblemError(503, "too_many_streams", message, headers={"Retry-After": RETRY_AFTER_S}) from None
    return EventStream(edge.live, stream, caller.left_s)
