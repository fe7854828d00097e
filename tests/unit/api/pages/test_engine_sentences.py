"""The engine's sentences come out in Russian, with all that they say."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.pages import rendering
from api.pages.engine_sentences import CLOSED, LONGEST, engine_words
from domain.source_troubles import Cause, remedy_of
from panel.records.evidence_told import evidence_told
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.decision.table import all_cells
from tests.unit.api.pages.sentence_files import CATALOGUE, PLACE, WORDS, Message, placed
from tests.unit.reconcile.arbitrary import worlds
from tests.unit.reconcile.disturbed import disturbed
from tests.unit.reconcile.worlds import POLICY

russian = engine_words("ru")

ENGLISH = re.compile(
    r"\b(a|an|and|are|but|by|for|has|in|is|it|its|not|nothing|of|or|that|the|to|was|were|with)\b", re.IGNORECASE
)
"""Words without which hardly any English sentence is made."""


@dataclass(frozen=True)
class Told:
    english: str
    russian: str
    reason: str


TOLD = (
    Told(
        "order 7041 ended and its guest is gone: a missed delete",
        "заказ 7041 завершён, и его гостя больше нет: пропущенное удаление",
        "one sentence, though it holds a colon",
    ),
    Told(
        "order 7041 is active and has no record: its create never arrived; "
        "an operator adopted guest fra1/104 into order 7041",
        "у заказа 7041 (состояние: действует) нет записи: вызов на её создание не пришёл; "
        "оператор отнёс гостя fra1/104 к заказу 7041",
        "two sentences, and a word of a closed set",
    ),
    Told(
        "order 7 is on-hold and names fra1/104",
        "состояние заказа 7: on-hold, он называет fra1/104",
        "a status that only the main site knows",
    ),
    Told(
        "guest fra1/104, which a call named for VPS 4, is another's: the machine at fra1/104 is, by its fingerprint, "
        "VPS 3's (fra1/99); let the main site send its order, or delete it",
        "вызов назвал для VPS 4 гостя fra1/104, но этот гость чужой: машина по адресу fra1/104, судя по отпечатку, "
        "принадлежит VPS 3 (fra1/99); пусть главный сайт пришлёт его заказ или удалит его",
        "sentences in a sentence",
    ),
    Told(
        "guest a/1 is configured with 2 cores instead of 4, 512 MiB of memory instead of 1024: less than was sold",
        "размер гостя a/1 меньше проданного: ядер 2 вместо 4, памяти 512 МиБ вместо 1024",
        "parts with a comma between them",
    ),
    Told(
        "4 deletes on node fra1/pve2 in one run, the limit is 3; 4 held",
        "удалений на узле fra1/pve2 за одну сверку: 4, лимит 3; удержано изменений: 4",
        "a held set",
    ),
    Told(
        "fra1: pve1: no connection within 5 s; pve2: the token lacks VM.Audit on /vms (403)",
        "fra1: pve1: нет соединения за 5 с; pve2: токену не хватает права VM.Audit на /vms (403)",
        "names before sentences",
    ),
    Told(
        "proxmox:fra1 is not believed: node(s) offline: pve2, pve3. The panel uses what the source shows; nothing "
        "counts as gone until the source is complete again",
        "proxmox:fra1 без доверия: узлы не в сети: pve2, pve3. Панель использует то, что источник показывает; ничто не "
        "считается пропавшим, пока источник снова не станет полным",
        "a remedy with a capital",
    ),
    Told(
        "The container was stopped, and it is not certain that it was started again: start it. Why: The machine is "
        "locked: a backup of it is running. Try again when that is over. Nothing was sent",
        "Контейнер остановлен, и неизвестно, включён ли он снова: включите его. Почему: Машина заблокирована: идёт её "
        "резервное копирование. Повторите, когда это закончится. Ничего не отправлено",
        "what came of a power action",
    ),
    Told(
        "guest fra1/104 is smbios:4c4c, read 2026-12-01 10:00:00 UTC (14 min ago): not this VPS's machine, which is "
        "smbios:5d5d",
        "гость fra1/104 — это smbios:4c4c, прочитан 2026-12-01 10:00:00 UTC (14 мин назад): это не машина этого VPS, "
        "его машина — smbios:5d5d",
        "which machine a guest is",
    ),
    Told(
        "do not remove guest a/1 (smbios:x): order 5 and VPS 4 name it, too",
        "не удаляйте гостя a/1 (smbios:x): его называют и другие: заказ 5 и VPS 4",
        "names with a word between them",
    ),
    Told("running -> stopped", "работает → выключен", "what an operation did"),
    Told(
        "MAIN_SITE_API_KEY is refused; the moon is full",
        "MAIN_SITE_API_KEY отклонён; the moon is full",
        "what no sentence fits stays as it is",
    ),
    Told("the moon is full", "the moon is full", "nothing is known"),
    Told("", "", "nothing is said"),
)


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case.reason)
def test_a_sentence_comes_out_in_russian(case: Told) -> None:
    assert russian(case.english) == case.russian


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case.reason)
def test_english_pages_say_what_is_stored(case: Told) -> None:
    assert engine_words("en")(case.english) == case.english


def test_evidence_comes_out_in_russian() -> None:
    told = evidence_told(
        {
            "guest": "fra1/104",
            "guest_absent_since": "2026-12-01T10:00:00+00:00",
            "guest_absent_times": 3,
            "order_status": "cancelled",
            "effective_at": "2026-12-01T10:05:00+00:00",
            "confirmed_guest": "no configuration on pve1, and none of 3 node(s) lists it",
            "confirmed_order": "order 7041 is cancelled",
            "by": "api:анна",
        }
    )
    assert told is not None
    assert russian(told) == (
        "Гостя fra1/104 не было в полных чтениях: 3, с 2026-12-01 10:00:00 UTC; главный сайт назвал состояние заказа: "
        "отменён (2026-12-01 10:05:00 UTC); прямо перед записью спросили ещё раз: конфигурации на pve1 нет, и ни один "
        "из узлов (3) его не показывает, состояние заказа 7041: отменён; решение принял api:анна"
    )


def test_every_cell_of_the_decision_table_is_told_in_russian() -> None:
    for *_, cell in all_cells():
        assert not ENGLISH.search(russian(cell.reason)), cell.reason


@pytest.mark.parametrize("cause", Cause)
def test_every_trouble_of_a_source_is_told_in_russian(cause: Cause) -> None:
    assert not ENGLISH.search(russian(remedy_of("proxmox:fra1", cause)))


@settings(max_examples=150, deadline=None)
@given(st.one_of(worlds(), disturbed()))
def test_every_plan_is_told_in_russian(world: World) -> None:
    """A message without Russian is added to a file of api/pages/translations/ru/sentences/."""
    made = plan(world, POLICY)
    for reason in [*(change.reason for change in made.changes), *(finding.reason for finding in made.findings)]:
        assert not ENGLISH.search(russian(reason)), f"no Russian for: {reason}"


# --- the catalogues


def test_a_sentence_stands_once_and_keeps_its_places() -> None:
    assert len(CATALOGUE) > 500
    assert len({message.english for message in CATALOGUE}) == len(CATALOGUE), "a sentence stands in two files"
    for message in CATALOGUE:
        assert message.russian, message.english
        assert set(PLACE.findall(message.russian)) == set(PLACE.findall(message.english)), message.english
        assert re.search("[а-я]", message.russian) or not ENGLISH.search(message.english), message.english


def test_the_words_of_closed_sets_are_of_places_that_there_are() -> None:
    assert {context for context, _ in WORDS} == CLOSED | {"names"}


VALUES = st.one_of(
    st.from_regex(r"[a-z0-9]{1,8}(/[0-9]{3})?", fullmatch=True),
    st.integers(0, 10**9).map(str),
    st.just("2026-12-01 10:00:00"),
    st.text(min_size=1, max_size=20),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(CATALOGUE), st.data())
def test_no_value_is_lost(message: Message, data: st.DataObject) -> None:
    """Whatever stands in the places: the translation has each word of it, or a word of a closed set in Russian."""
    values = {name: data.draw(VALUES, name) for name in dict.fromkeys(PLACE.findall(message.english))}
    told = russian(placed(message.english, values))
    for name, value in values.items():
        kind = name.rstrip("0123456789")
        assert all(word in told or WORDS.get((kind, word), word) in told for word in value.split()), name


FITTING = {"time": "2026-12-01 10:00:00", "list": "a, b", "address": "192.0.2.1", "share": "20%", "names": "VPS 7"}
NUMBERS = ("amount", "count", "days", "limit", "minutes", "operation", "page", "row", "seconds", "user", "vps")


def fitting_values(message: Message) -> dict[str, str]:
    values = {}
    for number, name in enumerate(dict.fromkeys(PLACE.findall(message.english)), 101):
        kind = name.rstrip("0123456789")
        values[name] = str(number) if kind in NUMBERS else FITTING.get(kind, f"x{number}")
    return values


def test_each_sentence_is_recognised() -> None:
    """With values that fit, each comes out as it is in the catalogue, and as no other sentence."""
    for message in CATALOGUE:
        values = fitting_values(message)
        assert russian(placed(message.english, values)) == placed(message.russian, values)


FOLLOWING = ("order 7 ended", "The machine is stopped: start it instead. Nothing was sent")


@pytest.mark.parametrize("following", FOLLOWING)
def test_sentences_after_each_other_are_told_one_by_one(following: str) -> None:
    """No sentence takes the next one for a value of its own."""
    for message in CATALOGUE:
        first = placed(message.english, fitting_values(message))
        assert russian(f"{first}; {following}") == f"{russian(first)}; {russian(following)}"


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from([m.english for m in CATALOGUE])).map("; ".join)))
def test_any_text_comes_out(text: str) -> None:
    assert isinstance(russian(text), str)


@pytest.mark.parametrize(
    "text",
    ["order is " * 400, "a; " * 1_300, ": " * 2_000, "guest a is b and names " * 150, "VPS 1 and " * 390, "x. " * 1_300,
     "x" * (LONGEST + 1), "paused until 2026-12-01 10:00:00 UTC by " + "a: " * 1_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_long_text_comes_out(text: str) -> None:
    assert len(russian(text)) >= len(text) // 2


# --- on a page

SAID = '{% import "operators/parts.html" as parts with context %}{{ parts.said(text) }}'


def shown(language: str, text: str, source: str = SAID) -> str:
    return rendering._ENVIRONMENTS[language].from_string(source).render(text=text, signed_in=None)


def test_a_page_escapes_what_stands_in_a_sentence() -> None:
    assert shown("ru", "order <b>&\x1b ended") == "<span>заказ &lt;b&gt;&amp;\\x1b завершён</span>"
    assert shown("en", "order <b> ended") == '<span lang="en">order &lt;b&gt; ended</span>'


def test_what_stays_english_is_marked_as_english() -> None:
    assert shown("ru", "the moon is full") == '<span lang="en">the moon is full</span>'


def test_what_an_operator_wrote_is_not_translated() -> None:
    source = SAID.replace("parts.said", "parts.written")
    assert shown("ru", "order 7 ended", source) == "<span>order 7 ended</span>"


def test_the_machine_has_its_own_gender() -> None:
    source = '{% import "words.html" as words %}{{ words.machine(text) | trim }}'
    assert shown("ru", "stopped", source) == "Выключена"
    assert shown("ru", "running", source) == "Работает"
    assert shown("en", "stopped", source) == "Stopped"
