import importlib
import types

import pytest

from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation.metric_registry import find_metric
from medqa_finetune.evaluation.metrics.base import characters, reference_count
from medqa_finetune.evaluation.predictions import Prediction
from tests.faulty import only_fault


def test_every_file_is_a_metric_that_is_found() -> None:
    assert metric_names() == sorted(metric_names())
    assert {"bleu", "perplexity", "rouge"} <= set(metric_names())
    for name in metric_names():
        assert find_metric(name).names


@pytest.mark.parametrize("name", ["bluer", "base", "", "..errors", "rouge.METRIC"])
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_metric(name)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "metrics", name)
    assert fault.allowed == tuple(metric_names())


def test_a_file_without_metric_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", types.ModuleType)
    with pytest.raises(ConfigError) as caught:
        find_metric("rouge")
    assert (only_fault(caught).code, only_fault(caught).got) == ("not-a-metric", "rouge")


def test_characters_are_code_points_but_white_space() -> None:
    assert characters(" 每日\u3000一次\n\x1c\u00a0\u2003😊\u200b") == "每日一次😊\u200b"


def test_reference_count() -> None:
    one, two = Prediction("a", "", ("r",), ""), Prediction("b", "", ("r", "s"), "")
    assert reference_count([one, one]) == 1
    assert reference_count([one, two]) is None
