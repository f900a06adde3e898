"""Hydra's flags, wherever they stand."""

from pathlib import Path

import pytest

from medqa_finetune.compat.hydra import flags_of_hydra
from medqa_finetune.config.flags import FLAGS, split_flags
from medqa_finetune.errors import NO_VALUE, ConfigError
from tests.faulty import only_fault


def test_every_flag_of_hydra_is_known() -> None:
    assert {(flag.name, flag.short, bool(flag.value), flag.allowed) for flag in FLAGS if flag.name != "--version"} == {
        each for each in flags_of_hydra() if each[0] != "--version"
    }


def test_flags_are_taken_anywhere(tmp_path: Path) -> None:
    line = split_flags(["method=lora", "-cd", str(tmp_path), "profile=demo", "-m", "seed=1"])
    assert line.typed_flags == [f"--config-dir={tmp_path}", "--multirun"]
    assert line.overrides == ["method=lora", "profile=demo", "seed=1"]
    assert line.many


@pytest.mark.parametrize(
    ("typed", "flags", "overrides"),
    [
        ("a=1 --cfg job b=2", {"--cfg": "job"}, ["a=1", "b=2"]),
        ("--cfg=all -p train", {"--cfg": "all", "--package": "train"}, []),
        ("--info a=1", {"--info": "all"}, ["a=1"]),
        ("a=1 -i defaults b=2", {"--info": "defaults"}, ["a=1", "b=2"]),
        ("a=1 --hydra-help", {"--hydra-help": ""}, ["a=1"]),
    ],
)
def test_a_flag_takes_its_value_alone(typed: str, flags: dict[str, str], overrides: list[str]) -> None:
    line = split_flags(typed.split())
    assert (line.flags, line.overrides) == (flags, overrides)
    assert line.only_shows


@pytest.mark.parametrize(
    ("typed", "code", "key", "got"),
    [
        ("--cfg", "missing-value", "--cfg", NO_VALUE),
        ("--cfg x", "not-allowed", "--cfg", "x"),
        ("--config-dir no/folder", "file-missing", "--config-dir", "no/folder"),
        ("-m --cfg job", "conflict", "--multirun", NO_VALUE),
        ("--package train", "conflict", "--package", "train"),
        ("--experimental-rerun x", "not-supported", "--experimental-rerun", NO_VALUE),
        ("--multirun=true", "flag-value", "--multirun", "true"),
        ("--cfg job --cfg all", "given-twice", "--cfg", "all"),
    ],
)
def test_impossible_flags_are_refused(typed: str, code: str, key: str, got: object) -> None:
    with pytest.raises(ConfigError) as caught:
        split_flags(typed.split())
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
