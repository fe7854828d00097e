"""Makes pages of templates, in the visitor's language, and answers a page's errors as pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.http.problems import ProblemError, as_problem
from api.pages.engine_sentences import engine_words
from api.pages.languages import LANGUAGES, language_of, translations_of
from api.pages.static_files import address_of
from panel.journal.calls import DatabaseAwayError
from panel.operator_error import OperatorError
from panel.printable import printable
from panel.records.evidence_told import evidence_told
from panel.records.public import Place
from panel.records.told import counted, pairs, plain

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
LANGUAGE_COOKIE = "panel_language"


class NotSignedInError(Exception):
    """The page is for signed-in visitors only. ``sign_in``: where they sign in."""

    def __init__(self, sign_in: str = "/sign-in") -> None:
        super().__init__(sign_in)
        self.sign_in = sign_in


def link(path: str) -> str:
    """The address of a path of this panel, for a browser."""
    return f"{Place.root}{path}"


def _environment(language: str) -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(translations_of(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(language=language, languages=LANGUAGES, link=link, asset=address_of)

    def moment(at: datetime) -> str:
        return f"{format_datetime(at, 'd MMM y, HH:mm', locale=language)} UTC"

    def ago(at: datetime, now: datetime) -> str:
        return format_timedelta(min(at - now, timedelta(seconds=-1)), add_direction=True, locale=language)

    def to_second(at: datetime) -> str:
        return f"{format_datetime(at, 'd MMM y, HH:mm:ss', locale=language)} UTC"

    def gigabytes(megabytes: int) -> str:
        return format_decimal(megabytes / 1024, "#,##0.##", locale=language)

    def number(value: float) -> str:
        return format_decimal(value, "#,##0.#", locale=language)

    def lasting(seconds: float) -> str:
        return format_timedelta(timedelta(seconds=seconds), locale=language)

    made.filters.update(
        moment=moment, to_second=to_second, ago=ago, gigabytes=gigabytes, lasting=lasting, number=number
    )
    made.filters.update(printable=printable, pairs=pairs, plain=plain, counted=counted, evidence_told=evidence_told)
    made.filters["translated"] = engine_words(language)
    return made


_ENVIRONMENTS = {language: _environment(language) for language in LANGUAGES}


def page(
    request: Request, template: str, status_code: int = 200, headers: Mapping[str, str] | None = None, **values: object
) -> HTMLResponse:
    """A page in the visitor's language. ``values``: what the template shows; it escapes all of them."""
    language = language_of(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
    here = request.scope["path"]
    if here == "/" and (query := request.scope["query_string"]):  # a query of another page is never repeated
        here += "?" + query.decode("latin-1")
    common = {"signed_in": request.scope.get("signed_in"), "here": here}
    text = _ENVIRONMENTS[language].get_template(template).render(common | values)
    always = {"Content-Security-Policy": POLICY, "Content-Language": language, "Cache-Control": "no-store"}
    return HTMLResponse(text, status_code, headers={**(headers or {}), **always})


async def large_page(request: Request, template: str, **values: object) -> HTMLResponse:
    """A page with hundreds of rows. It is made in a thread, because the event loop has sync calls to answer."""
    return await asyncio.to_thread(lambda: page(request, template, 200, None, **values))


def redirect(path: str) -> RedirectResponse:
    """Send the browser to a path of this panel, by GET."""
    return RedirectResponse(link(path), 303)


class PageRoute(APIRoute):
    """A route whose errors are pages, too. ``problem``: their template."""

    problem = "problem.html"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route, with its errors answered."""
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except NotSignedInError as error:
                return _to_sign_in(request, error.sign_in)
            except RequestValidationError as error:
                problem = as_problem(error)
                if error.errors()[0]["loc"][0] == "query":
                    problem.extra["back"] = request.scope["path"]
            except HTTPException as error:
                problem = ProblemError(error.status_code, "http_error", "", headers=error.headers)
            except (ProblemError, DatabaseAwayError, OperatorError) as error:
                problem = as_problem(error)
            return _problem_page(request, problem, self.problem)

        return answered


def _problem_page(request: Request, error: ProblemError, template: str) -> Response:
    """The page of one refused request. It says what happened in the visitor's words, by the status code."""
    request.scope["problem_code"] = error.code  # for the audit of use
    return page(request, template, error.status_code, error.headers, status=error.status_code, error=error)


def _to_sign_in(request: Request, path: str) -> Response:
    """Send the visitor to the sign-in page. A script that fetched a part of a page cannot follow a redirect of the
    whole page, so it gets htmx's header for that."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"HX-Redirect": link(path), "WWW-Authenticate": "Bearer"})
    return redirect(path)
