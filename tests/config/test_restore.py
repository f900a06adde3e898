"""From a record's settings back to the settings."""

import json

import pytest

from medqa_finetune.config.identity import Fingerprints, as_written, settings_of
from medqa_finetune.config.restore import restore_config
from medqa_finetune.errors import ConfigError
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

MARKS = Fingerprints("c" * 64, "m" * 64)


def test_the_settings_of_a_run_come_back_as_they_were() -> None:
    config = changed(VALID, method__target_modules=["q_proj"], train__epochs=2.5, threads=3, run_name="lora_20k")
    written = json.loads(json.dumps(as_written(settings_of(config, MARKS), config)))
    assert restore_config(written) == config


def test_what_came_from_the_environment_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written = settings_of(VALID, MARKS)
    written["model"]["path"] = "${oc.env:MY_MODELS}/chat"
    monkeypatch.setenv("MY_MODELS", "/models")
    assert restore_config(written).model.path == "/models/chat"


def test_a_setting_that_is_impossible_is_refused_with_its_key() -> None:
    written = settings_of(VALID, MARKS)
    written["method"]["rank"] = 0
    with pytest.raises(ConfigError) as caught:
        restore_config(written)
    assert (only_fault(caught).key, only_fault(caught).got) == ("method.rank", 0)
