"""Every command of the README's table for those who come from an older script, run on small models and data."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from medqa_finetune.data.embedded import embedded_rows
from scripts.small_models import write_micro_model
from tests.commands import TINY, python
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Coming from an older script") :]
TABLE = [line for line in SECTION[: SECTION.index("\n## ", 1)].splitlines() if line.startswith("| `")]
COMMANDS = [re.findall(r"`([^`]+)`", line.split(" | ")[1])[-1] for line in TABLE]
MODELS = ("models/pruned", "models/my-model")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user's: models, pairs, and what the first of the commands has left."""
    folder = tmp_path_factory.mktemp("home")
    for name in MODELS:
        write_micro_model(folder / name, "pruned" if "pruned" in name else "qwen2")
    rows = [json.dumps(row, ensure_ascii=False) for row, _ in zip(embedded_rows(), range(60), strict=False)]
    (folder / "pairs.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    trained = small("python -m medqa_finetune.train method=lora data=20k", folder)
    assert trained.returncode == 0, trained.stderr
    return folder


def small(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command as it stands there, on small data and a small model where it does not choose them itself."""
    if command.startswith("from "):
        return python("-c", f"if __name__ == '__main__':\n    {command}", cwd=folder, timeout=600)
    # Small data and a small model stand in the name of what was trained here.
    trained = [path.parent for path in folder.glob("outputs/**/lora_20k*/record.json")]
    words = [word.replace("outputs/lora_20k", str(min(trained, default=""))) for word in shlex.split(command)]
    typed = {word.split("=")[0] for word in words}
    words += [word for word in settings(words[2], typed, folder) if word.split("=")[0] not in typed]
    return python(*words[1:], cwd=folder, timeout=600)


def settings(module: str, typed: set[str], folder: Path) -> list[str]:
    if module == "medqa_finetune.chat":
        return ["max_new_tokens=8"]
    few = [word for word in TINY if not word.startswith(("data.scale", "data.validation", "data.test"))]
    few += [f"model.path={folder / 'models/my-model'}", "outputs=outputs"]
    if module == "medqa_finetune.export" or "data.train_size" in typed:
        return [*few, "data.validation_size=4", "data.test_size=4"]
    return [*few, "data.scale=0.001", "data.validation_size=4000", "data.test_size=4000"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_new_command_does_what_the_table_says(command: str, home: Path) -> None:
    done = small(command, home)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_table_names_every_old_way() -> None:
    for name in ("lora_20k.yaml", "train_config_qlora_8bit.json", "--use_lora --lora_r 64", "--samples 200 --epochs 1",
                 "--mode interactive", "finetune_lora.py --pruned_model", "FineTuner(", "--resume_from_checkpoint",
                 "--max_samples"):  # fmt: skip
        assert any(name in line for line in TABLE), name
