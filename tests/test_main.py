"""`python -m medqa_finetune` lists the commands."""

import tomllib

import pytest

from medqa_finetune.__main__ import COMMANDS, list_commands, script_of
from medqa_finetune.errors import ConfigError
from tests.faulty import only_fault
from tests.sources import ROOT


def test_every_script_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {script_of(name): f"medqa_finetune.{name}:main" for name in COMMANDS} == scripts
    assert list_commands([]) == 0
    assert all(f"medqa_finetune.{name}" in capsys.readouterr().out for name in list(COMMANDS)[:1])


@pytest.mark.parametrize(
    ("typed", "code", "hint"),
    [
        (["train", "method=lora", "study=a b"], "mistyped", "`python -m medqa_finetune.train method=lora 'study=a b'`"),
        (["medqa-plan"], "mistyped", "`python -m medqa_finetune.plan`"),
        (["run"], "not-allowed", ""),
    ],
)
def test_a_command_is_named_as_it_is_typed(typed: list[str], code: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list_commands(typed)
    fault = only_fault(caught)
    assert (fault.code, fault.got) == (code, typed[0])
    assert hint in fault.hint
