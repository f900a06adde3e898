"""Durations as people type them."""

import pytest

from medqa_finetune.config.checks import checked
from medqa_finetune.config.durations import seconds_of
from medqa_finetune.errors import ConfigError
from tests.config.builders import VALID, changed
from tests.faulty import only_fault


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("11h", 39600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert checked(changed(VALID, time_limit=text)).time_limit == text


@pytest.mark.parametrize("text", ["11", "0h", "-1h", "1 h", "h", "", "11小时", "1h30", "0s0m", "1e3s"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(changed(VALID, time_limit=text))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("wrong-value", "time_limit", text)
    assert "11h" in fault.allowed
