"""What is relied on of Weights & Biases, each time in a process of its own: it keeps its settings for the process."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.commands import python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("wandb") is None, reason="needs the extra: pip install -e '.[wandb]'"),
]
MODE = "from medqa_finetune.compat.wandb import mode; print(mode())"


@pytest.mark.parametrize("wanted", ["online", "offline", "disabled"])
def test_mode_is_that_of_the_environment(wanted: str, tmp_path: Path) -> None:
    done = python("-c", MODE, cwd=tmp_path, HOME=str(tmp_path), WANDB_MODE=wanted)
    assert done.stdout.split()[-1:] == [wanted], done.stderr


def test_mode_is_that_of_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n", encoding="utf-8")
    done = python("-c", MODE, cwd=tmp_path, HOME=str(tmp_path))
    assert done.stdout.split()[-1:] == ["offline"], done.stderr


def test_login_without_a_key_says_no_and_asks_nobody(tmp_path: Path) -> None:
    # `prompt` is an argument from 0.30 on.
    done = python("-c", "import wandb; print(wandb.login(prompt=False))", cwd=tmp_path, HOME=str(tmp_path))
    assert done.stdout.split()[-1:] == ["False"], done.stderr
