"""Parts that met are one, by the least of their numbers, in whatever order they met."""

from __future__ import annotations

from random import Random

import pytest

from panel.observations.components import _least_of


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_of_thousands_is_one_part(seed: int) -> None:
    """Every part of it, and no part of another; by so many steps as there are meetings, not as many as their square."""
    chain = [(n, n + 2) for n in range(1, 60_000)]
    Random(seed).shuffle(chain)
    least = _least_of(chain)
    assert {part: least.get(part, part) for part in range(1, 60_002)} == {n: 2 - n % 2 for n in range(1, 60_002)}


def test_who_met_nobody_is_left_as_it_is() -> None:
    assert _least_of([]) == {}
    assert _least_of([(7, 3), (9, 7), (5, 4)]) == {7: 3, 9: 3, 5: 4}
