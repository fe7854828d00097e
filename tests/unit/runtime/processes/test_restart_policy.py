import pytest

from runtime.processes.supervisor import RestartPolicy

CASES = {
    "the first death waits the first delay": (1, 1.0),
    "each further death doubles it": (3, 4.0),
    "up to the most": (7, 30.0),
    "and a process that dies for days overflows nothing": (1_000_000, 30.0),
}


@pytest.mark.parametrize(("deaths", "delay_s"), CASES.values(), ids=CASES)
def test_delay(deaths: int, delay_s: float) -> None:
    assert RestartPolicy(first_delay_s=1, max_delay_s=30).delay_s(deaths) == delay_s
