"""A policy that an operator writes: which words it may have, and how it stands beside the setting."""

from __future__ import annotations

import pytest

from domain.changes import DELETES, Kind
from domain.repair_policy.budget import Budget, Handling
from panel.operator_error import OperatorError
from panel.operators.repair_policy.past_deletes import LIMITS, OtherLimits
from panel.operators.repair_policy.policies import (
    CLASSES,
    DELETE_CLASSES,
    MODES,
    budget_of,
    handling_of,
    parse_policy,
    policy_text,
)
from panel.settings import Settings


def test_the_words_are_those_of_the_setting() -> None:
    written = dict(zip(CLASSES, MODES * 4, strict=False))
    assert Settings.model_validate({"repair_policy": written}).repair_policy == written
    assert set(DELETE_CLASSES) == {kind.value for kind in DELETES}


def test_a_policy_is_read() -> None:
    policy = parse_policy(["orphan=repair", "missed-delete=hold", "orphan=ignore"])
    assert policy == {"missed-delete": "hold", "orphan": "ignore"}
    assert policy_text(policy) == "missed-delete=hold, orphan=ignore"


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        pytest.param([], ("orphan=repair",), id="nothing"),
        pytest.param(["orphans=repair"], CLASSES, id="no class of that name"),
        pytest.param(["link=repair"], CLASSES, id="links are handled by all"),
        pytest.param(["=repair"], CLASSES, id="no class"),
        pytest.param(["orphan"], MODES, id="no mode"),
        pytest.param(["orphan=delete"], MODES, id="no mode of that name"),
        pytest.param(["orphan=repair", "orphan=Hold"], MODES, id="the last one counts"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(pairs: list[str], named: tuple[str, ...]) -> None:
    with pytest.raises(OperatorError) as refused:
        parse_policy(pairs)
    assert refused.value.fault == "invalid"
    assert [word for word in named if word not in str(refused.value)] == []


def test_what_is_asked_stands_beside_the_setting() -> None:
    settings = Settings.model_validate({"repair_policy": {"all": "hold", "orphan": "ignore"}})
    handling = handling_of(settings, {"missed-delete": "repair"})
    assert (handling[Kind.ORPHAN], handling[Kind.DELETE]) == (Handling.IGNORE, Handling.REPAIR)
    assert {how for kind, how in handling.items() if kind not in DELETES} == {Handling.HOLD}
    assert handling_of(settings, {"all": "repair"})[Kind.SOLD_ON] is Handling.HOLD
    assert handling_of(settings, {}) == handling_of(settings)


def test_every_limit_that_may_be_tried_is_a_setting() -> None:
    settings = Settings.model_validate({f"budget_{name}": number for number, name in enumerate(LIMITS, 1)})
    assert [getattr(budget_of(settings), name) for name in LIMITS] == [1, 2, 3, 4]
    tried = OtherLimits(deletes_run=7, deletes_day=0).budget(settings)
    assert [getattr(tried, name) for name in LIMITS] == [7, 2, 0, 4]
    assert tried.deletes_node_share == Budget().deletes_node_share
