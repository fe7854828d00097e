"""One shop and one Chromium for all of these tests. Each test opens browsers of its own in it.

pytest-playwright is not used: it asks for the loop of pytest-asyncio, and fails where warnings are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.support.shop import (
    ANNA,
    BORIS,
    DORA,
    EMIL,
    GLEB,
    TWO_OPERATORS_ABOVE,
    HeldSet,
    Shop,
    Sold,
    open_shop,
)
from tests.browser.support.visitor import Visitor, program
from tests.support.databases import Databases

Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def shop(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    database = databases.clone()
    with open_shop(database, tmp_path_factory.mktemp("shop")) as made:
        yield made
    databases.drop(database)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program())
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, shop: Shop) -> Iterator[Visit]:
    """Opens a browser: ``visit(refusals={404}, java_script_enabled=False, ...)``. At the end none of them may have
    complained: of a script, a style or a connection that the policy forbids, or of anything that failed."""
    opened: list[Visitor] = []

    def open_one(**options: object) -> Visitor:
        opened.append(Visitor(chromium, shop, **options))  # type: ignore[arg-type]  # as Visitor takes them
        return opened[-1]

    yield open_one
    for visitor in opened:
        visitor.close()
    assert [complaint for visitor in opened for complaint in visitor.complaints] == []


@pytest.fixture(scope="session")
def annas(shop: Shop) -> Sold:
    """A running VPS of Anna, which tests leave as it is."""
    return shop.sell(ANNA, "anna-web", ip_address="198.51.100.11")[0]


@pytest.fixture(scope="session")
def boriss(shop: Shop) -> Sold:
    """A running VPS of Boris, which tests leave as it is."""
    return shop.sell(BORIS, "boris-web", ip_address="198.51.100.22")[0]


@pytest.fixture(scope="session")
def held_sets(shop: Shop) -> list[HeldSet]:
    """Sets of held deletes: one to decide, of Dora; one that stays, of Emil; one for two operators, of Gleb."""
    return shop.hold_deletes((DORA, 2), (EMIL, 2), (GLEB, TWO_OPERATORS_ABOVE + 1))


@pytest.fixture(scope="session")
def to_decide(held_sets: list[HeldSet]) -> HeldSet:
    return held_sets[0]


@pytest.fixture(scope="session")
def to_look_at(held_sets: list[HeldSet]) -> HeldSet:
    return held_sets[1]


@pytest.fixture(scope="session")
def for_two(held_sets: list[HeldSet]) -> HeldSet:
    return held_sets[2]
