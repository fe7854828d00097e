"""Who gets in, by which link or token, for how long, and how they get out again."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from api.dependencies import Edge
from api.main import create_app
from api.operator_pages import signed_in_operator
from panel.clients import client_sessions
from panel.settings import Settings
from tests.integration.api.conftest import Secrets
from tests.integration.api.pages.conftest import OWN, SITE, browser, form_token, sign_in, signed
from tests.support.fleets.world import add_user
from tests.support.keys import random_key


def sessions(engine: Engine) -> list[tuple[str, int, float]]:
    """Every session: hash of its token, user, seconds until it expires."""
    query = (
        "SELECT token_hash, user_id, CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8)"
        " FROM client_sessions ORDER BY created_at"
    )
    with engine.connect() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(text(query))]


def user(engine: Engine, user_id: int) -> dict[str, Any] | None:
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM users WHERE id = :id"), {"id": user_id}).one_or_none()
    return dict(row._mapping) if row else None


async def test_a_link_signs_in_and_makes_the_user(visitor: httpx.AsyncClient, link_secret: str, engine: Engine) -> None:
    answer = await visitor.get(signed(link_secret, 77, "Анна <b>", "anna@shop.test"))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    ((name, cookie),) = [c.split("=", 1) for c in answer.headers.get_list("set-cookie")]
    assert name == "__Host-panel_session"
    token, *rest = cookie.split("; ")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(rest)
    ((stored, user_id, left_s),) = sessions(engine)
    assert (stored, user_id) == (hashlib.sha256(token.encode()).hexdigest(), 77)
    assert 11 * 3600 < left_s < 12 * 3600 + 1
    made = user(engine, 77)
    assert made is not None
    assert (made["username"], made["email"], made["email_verified"]) == ("Анна <b>", "anna@shop.test", False)
    assert (made["main_site_user_id"], made["map_source"]) == (None, None), "a link maps nobody"
    page = await visitor.get("/")
    assert page.status_code == 200
    assert "Анна &lt;b&gt;" in page.text
    assert (await visitor.get("/sign-in")).headers["Location"] == "/", "who is signed in needs no form"


async def test_a_link_changes_the_name_and_the_e_mail_and_never_the_map(
    visitor: httpx.AsyncClient, link_secret: str, engine: Engine
) -> None:
    add_user(engine, 8, main_site_user_id="m8")
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET email = 'old@shop.test', email_verified = true WHERE id = 8"))
    for email, stored, verified in (("", "old@shop.test", True), ("OLD@shop.test", "OLD@shop.test", True),
                                    ("new@shop.test", "new@shop.test", False)):  # fmt: skip
        assert (await visitor.get(signed(link_secret, 8, "eva", email))).status_code == 303
        now = user(engine, 8)
        assert now is not None
        assert (now["username"], now["email"], now["email_verified"]) == ("eva", stored, verified)
        assert (now["main_site_user_id"], now["map_source"]) == ("m8", "operator")


async def test_where_ids_are_mapped_a_link_with_the_main_sites_id_is_refused(
    settings: Settings, link_secret: str, engine: Engine, logged: list[dict[str, Any]], subtests: pytest.Subtests
) -> None:
    add_user(engine, 8, main_site_user_id="m8")
    add_user(engine, 9)
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET username = 'eva', email = 'eva@shop.test' WHERE id IN (8, 9)"))
    cases: list[tuple[str, str, int, tuple[str, str], int]] = [
        ("another person", "mapped", 8, ("boris", "boris@shop.test"), 409),
        ("a new name", "mapped", 8, ("eva-maria", "EVA@shop.test"), 303),
        ("a new e-mail", "mapped", 8, ("eva-maria", "new@shop.test"), 303),
        ("who is not mapped", "mapped", 9, ("boris", "boris@shop.test"), 303),
        ("ids are shared", "shared", 8, ("boris", "boris@shop.test"), 303),
    ]
    for name, space, user_id, given, status in cases:
        made = create_app(settings.model_copy(update={"user_id_space": space}))
        async with made.router.lifespan_context(made), browser(made) as visitor:
            with subtests.test(name):
                answer = await visitor.get(signed(link_secret, user_id, *given))
                assert answer.status_code == status
                if status == 409:
                    assert "names another customer" in answer.text
                    kept = user(engine, user_id)
                    assert kept is not None
                    assert (kept["username"], sessions(engine)) == ("eva", [])
    refused = [event for event in logged if event["event"] == "sign_in_link_names_another_user"]
    assert [event["user_id"] for event in refused] == [8]


async def test_every_refusal_of_a_link(
    visitor: httpx.AsyncClient, link_secret: str, engine: Engine, subtests: pytest.Subtests
) -> None:
    used = signed(link_secret, 90)
    assert (await visitor.get(used)).status_code == 303
    good = signed(link_secret, 91)
    cases = [
        ("used already", used, 410, "used already"),
        ("used in capitals", used[:-64] + used[-64:].upper(), 410, "used already"),
        ("expired", signed(link_secret, 91, ago_s=301), 410, "expired"),
        ("from the future", signed(link_secret, 91, ago_s=-120), 400, "not valid"),
        ("signed by somebody else", signed(random_key(), 91), 401, "not valid"),
        ("another user", good.replace("user_id=91", "user_id=92"), 401, "not valid"),
        ("no user", signed(link_secret, ""), 400, "not valid"),
        ("user 0", signed(link_secret, 0), 400, "not valid"),
        ("a line break", signed(link_secret, 91, "a\nb"), 400, "not valid"),
        ("no signature", good.partition("&signature")[0], 400, "not valid"),
        ("two signatures", f"{good}&signature={'0' * 64}", 400, "not valid"),
        ("one parameter", "/sign-in?user_id=91", 400, "not valid"),
    ]
    visitor.cookies.clear()
    for name, link, status, said in cases:
        with subtests.test(name):
            answer = await visitor.get(link)
            assert answer.status_code == status
            assert said in answer.text
            assert f'href="{SITE}"' in answer.text, "it leads back"
            assert "set-cookie" not in answer.headers
            assert "signature" not in answer.text, "the page repeats nothing of the link"
    assert [row[1] for row in sessions(engine)] == [90]
    assert user(engine, 91) is None
    assert (await visitor.get(good)).status_code == 303, "what was refused before did not use the link up"


async def test_a_second_click_is_no_refusal(visitor: httpx.AsyncClient, link_secret: str, engine: Engine) -> None:
    link = signed(link_secret, 90)
    assert (await visitor.get(link)).status_code == 303
    for again in (link, signed(link_secret, 90, ago_s=301)):
        answer = await visitor.get(again)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert "set-cookie" not in answer.headers
    assert len(sessions(engine)) == 1
    assert (await visitor.get(signed(link_secret, 91, ago_s=301))).status_code == 200, "of another customer it asks"


async def test_without_the_secret_there_are_no_links(settings: Settings, engine: Engine) -> None:
    off = create_app(Settings(_env_file=None, **settings.model_dump() | {"sign_in_secret": SecretStr("")}))
    async with off.router.lifespan_context(off), browser(off) as visitor:
        answer = await visitor.get(signed("", 91))
    assert answer.status_code == 404
    assert "switched off" in answer.text
    assert sessions(engine) == []


async def test_two_processes_use_a_link_once(settings: Settings, link_secret: str, engine: Engine) -> None:
    first, second = create_app(settings), create_app(settings)
    async with (
        first.router.lifespan_context(first),
        second.router.lifespan_context(second),
        browser(first) as one,
        browser(second) as other,
    ):
        for number in range(5):
            one.cookies.clear()
            other.cookies.clear()
            link = signed(link_secret, 100 + number)
            answers = await asyncio.gather(one.get(link), other.get(link), one.get(link))
            assert sorted(answer.status_code for answer in answers) == [303, 410, 410]
    assert [row[1] for row in sessions(engine)] == [100, 101, 102, 103, 104]


async def test_another_users_link_asks_before_it_replaces_the_session(
    visitor: httpx.AsyncClient, link_secret: str, secrets: Secrets, engine: Engine
) -> None:
    await sign_in(visitor, secrets, 5)
    old = dict(visitor.cookies)
    asking = await visitor.get(signed(link_secret, 6, "boris"))
    assert asking.status_code == 200
    assert "Sign in as boris?" in asking.text
    assert [row[1] for row in sessions(engine)] == [5], "a link that somebody sent does nothing by itself"
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asking.text))
    for name, wrong in (("form_token", "0" * 64), ("user_id", "7")):
        refused = await visitor.post("/sign-in/link", data=fields | {name: wrong}, headers=OWN)
        assert refused.status_code in {401, 403}
    assert (await visitor.post("/sign-in/link", data=fields, headers=OWN)).status_code == 303
    assert [row[1] for row in sessions(engine)] == [6]
    again = await visitor.get(signed(link_secret, 6, "boris", "b@shop.test"))
    assert again.status_code == 303, "to oneself there is no question"
    assert "boris" in (await visitor.get("/")).text
    visitor.cookies = httpx.Cookies(old)
    assert (await visitor.get("/")).headers["Location"] == "/sign-in"


async def test_tokens(visitor: httpx.AsyncClient, secrets: Secrets, engine: Engine, subtests: pytest.Subtests) -> None:
    def token(expires_in_s: int, key: str = secrets.jwt) -> str:
        return jwt.encode({"user_id": 5, "exp": int(time.time()) + expires_in_s}, key, "HS256")

    cases = [
        ("nothing", "  ", 400, "Paste your token first"),
        ("no token", "hello", 401, "not valid"),
        ("of another key", token(600, random_key()), 401, "not valid"),
        ("expired", token(-600), 401, "has expired"),
        ("too long", "x" * 9000, 401, "not valid"),
    ]
    for name, pasted, status, said in cases:
        with subtests.test(name):
            answer = await visitor.post("/sign-in", data={"token": pasted}, headers=OWN)
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
            assert said in answer.text
            assert "set-cookie" not in answer.headers
    assert sessions(engine) == []
    broken_into_lines = token(600)[:30] + "\r\n" + token(600)[30:]
    answer = await visitor.post("/sign-in", data={"token": broken_into_lines}, headers=OWN)
    assert answer.status_code == 303
    ((_, user_id, left_s),) = sessions(engine)
    assert user_id == 5
    assert left_s <= 600, "the session ends when the token does"


async def test_forms_of_other_sites_do_nothing(
    app: FastAPI, visitor: httpx.AsyncClient, secrets: Secrets, engine: Engine, subtests: pytest.Subtests
) -> None:
    await sign_in(visitor, secrets)
    own = form_token(await visitor.get("/"))
    async with browser(app) as other:
        await sign_in(other, secrets, 6)
        others = form_token(await other.get("/"))
    cases: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("another site", {"form_token": own}, {"Sec-Fetch-Site": "cross-site"}),
        ("a neighbour", {"form_token": own}, {"Sec-Fetch-Site": "same-site"}),
        ("no form token", {"x": "1"}, OWN),
        ("no form token in an old browser", {"x": "1"}, {}),
        ("another session's", {"form_token": others}, OWN),
        ("not even ASCII", {"form_token": "ж"}, OWN),
    ]
    for name, data, headers in cases:
        with subtests.test(name):
            answer = await visitor.post("/sign-out", data=data, headers=headers)
            assert answer.status_code == 403
            assert "Open the page again" in answer.text
    answer = await visitor.post("/sign-in", data={"token": secrets.token(6)}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    answer = await visitor.post("/sign-in", data={"token": secrets.token(6)})
    assert answer.status_code == 403, "a browser that does not say which site it was"
    async with browser(app) as without_cookie:  # as a browser sends the form of another site
        for path in ("/sign-out", "/ops/sign-out"):
            answer = await without_cookie.post(path, data={"x": "1"}, headers={"Sec-Fetch-Site": "cross-site"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), "the browser keeps its cookie"
    as_json = await visitor.post("/sign-out", json={"form_token": own}, headers=OWN)
    assert as_json.status_code == 415
    assert sorted(row[1] for row in sessions(engine)) == [5, 6]


async def test_sign_out_ends_the_session_and_nothing_was_kept(
    visitor: httpx.AsyncClient, secrets: Secrets, engine: Engine
) -> None:
    await sign_in(visitor, secrets)
    page = await visitor.get("/")
    assert page.headers["Cache-Control"] == "no-store", "the back button shows nothing of it"
    cookie = dict(visitor.cookies)
    answer = await visitor.post("/sign-out", data={"form_token": form_token(page)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?signed-out")
    assert dict(visitor.cookies) == {}
    assert sessions(engine) == []
    assert "You are signed out" in (await visitor.get("/sign-in?signed-out")).text
    visitor.cookies = httpx.Cookies(cookie)
    for path in ("/", "/vps/1"):
        again = await visitor.get(path)
        assert (again.status_code, again.headers["Location"], again.text) == (303, "/sign-in", "")
        part = await visitor.get(path, headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["HX-Redirect"], part.text) == (401, "/sign-in", "")
    assert (await visitor.get("/api/vps/events")).status_code == 401


async def test_what_is_no_token_asks_the_database_nothing(
    app: FastAPI, visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(Edge, "read", asked)
    monkeypatch.setattr(signed_in_operator, "in_transaction", asked)
    for cookie in ("x", "", "a" * 42, "a" * 44, "a" * 42 + "!", "a" * 5000):
        for path, name in (("/", "__Host-panel_session"), ("/ops", "__Secure-panel_operator")):
            with subtests.test(f"{name} {cookie[:50]}"):
                answer = await visitor.get(path, headers={"Cookie": f"{name}={cookie}"})
                assert answer.status_code == 303


async def test_a_user_keeps_the_newest_sessions(
    visitor: httpx.AsyncClient, secrets: Secrets, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_sessions, "KEPT", 3)
    await sign_in(visitor, secrets, 6)
    kept = []
    for _ in range(5):
        visitor.cookies.clear()
        await sign_in(visitor, secrets, 5)
        kept.append(dict(visitor.cookies))
    assert [row[1] for row in sessions(engine)] == [6, 5, 5, 5]
    for number, cookie in enumerate(kept):
        visitor.cookies = httpx.Cookies(cookie)
        assert ((await visitor.get("/")).status_code == 200) == (number >= 2)


async def test_an_expired_session_is_none(visitor: httpx.AsyncClient, secrets: Secrets, owner: Engine) -> None:
    await sign_in(visitor, secrets)
    with owner.begin() as connection:
        connection.execute(text("UPDATE client_sessions SET expires_at = clock_timestamp()"))
    assert (await visitor.get("/")).headers["Location"] == "/sign-in"


async def test_a_session_ends_with_the_key_behind_it(
    app: FastAPI, settings: Settings, secrets: Secrets, link_secret: str, subtests: pytest.Subtests
) -> None:
    async with browser(app) as by_token, browser(app) as by_link:
        await sign_in(by_token, secrets)
        await by_link.get(signed(link_secret, 6))
        cookies = {"token": dict(by_token.cookies), "link": dict(by_link.cookies)}
    changes: list[tuple[str, dict[str, SecretStr], set[str]]] = [
        ("nothing", {}, {"token", "link"}),
        ("the tokens' secret", {"jwt_secret": SecretStr(random_key())}, {"link"}),
        ("the links' secret", {"sign_in_secret": SecretStr(random_key())}, {"token"}),
        ("no links any more", {"sign_in_secret": SecretStr("")}, {"token"}),
    ]
    for name, changed, left in changes:
        other = create_app(settings.model_copy(update=changed))
        async with other.router.lifespan_context(other), browser(other) as visitor:
            for way, cookie in cookies.items():
                with subtests.test(f"{name}: {way}"):
                    visitor.cookies = httpx.Cookies(cookie)
                    assert ((await visitor.get("/")).status_code == 200) == (way in left)
                    assert ((await visitor.get("/sign-in")).status_code == 303) == (way in left)


@pytest.mark.parametrize(
    ("url", "header", "name", "secure"),
    [
        pytest.param("http://127.0.0.1:5050", "", "panel_session", False, id="this machine"),
        pytest.param("http://[::1]:5050", "", "panel_session", False, id="this machine by IPv6"),
        pytest.param("https://localhost", "", "__Host-panel_session", True, id="HTTPS"),
        pytest.param("http://panel.test", "", "__Host-panel_session", True, id="a proxy that hides HTTPS"),
        pytest.param("http://127.0.0.1:5050", "X-Forwarded-For", "__Host-panel_session", True, id="and the host"),
        pytest.param("http://127.0.0.1:5050", "Forwarded", "__Host-panel_session", True, id="by the newer header"),
    ],
)
async def test_only_on_loopback_a_cookie_goes_in_clear(
    visitor: httpx.AsyncClient, secrets: Secrets, url: str, header: str, name: str, secure: bool
) -> None:
    headers = OWN | ({header: "for=192.0.2.1"} if header else {})
    answer = await visitor.post(f"{url}/sign-in", data={"token": secrets.token(5)}, headers=headers)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{name}=")
    assert ("; Secure" in cookie) == secure


async def test_the_language_is_kept_and_leads_nowhere_else(visitor: httpx.AsyncClient) -> None:
    page = await visitor.get("/sign-in")
    assert (page.headers["Content-Language"], "<h1>Sign in to the panel</h1>" in page.text) == ("en", True)
    switch = re.search(r'href="(/language/ru\?[^"]*)"', page.text)
    assert switch is not None
    answer = await visitor.get(switch[1])
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    page = await visitor.get("/sign-in")
    assert '<html lang="ru">' in page.text
    assert "<h1>Вход в панель</h1>" in page.text
    for back in ("//evil.test", "/\\evil.test", "https://evil.test", "evil", "/a\r\nSet-Cookie: x=1", "/" + "a" * 600):
        answer = await visitor.get("/language/en", params={"back": back})
        assert answer.headers["Location"] == "/"
    assert (await visitor.get("/language/xx")).status_code == 404


async def test_a_stream_ends_with_the_session_or_the_token(
    app: FastAPI, secrets: Secrets, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lefts: list[float] = []

    async def noted(_stream: object, left_s: float) -> AsyncIterator[bytes]:
        lefts.append(left_s)
        yield b""

    monkeypatch.setattr(app.state.edge.live, "messages", noted)
    async with browser(app) as visitor:
        await sign_in(visitor, secrets)
        with owner.begin() as connection:
            connection.execute(text("UPDATE client_sessions SET expires_at = clock_timestamp() + interval '100 s'"))
        assert (await visitor.get("/api/vps/events")).status_code == 200
        token = jwt.encode({"user_id": 5, "exp": int(time.time()) + 200}, secrets.jwt, "HS256")
        answer = await visitor.get("/api/vps/events", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    assert 0 < lefts[0] <= 100 < lefts[1] <= 200
