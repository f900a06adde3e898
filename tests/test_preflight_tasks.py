"""What is found before a run of dialogues or of running text starts."""

import shutil
from pathlib import Path

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError
from medqa_finetune.preflight import preflight_matrix, preflight_run
from tests.config.builders import VALID, changed
from tests.data.test_encode_dialogues import CHANGES_EARLIER, NO_SYSTEM
from tests.faulty import only_fault

pytestmark = pytest.mark.usefixtures("forked_children")


def config_of(folder: Path, outputs: Path, **changes: str) -> Config:
    return changed(VALID, outputs=str(outputs), run_name="r", model__path=str(folder), model__name="local", **changes)


def with_template(folder: Path, target: Path, template: str | None) -> Path:
    """Copy a model; its chat template is another one, or none."""
    shutil.copytree(folder, target)
    (target / "chat_template.jinja").unlink()
    if template is not None:
        (target / "chat_template.jinja").write_text(template, "utf-8")
    return target


@pytest.mark.parametrize(
    ("template", "beside", "code"),
    [(CHANGES_EARLIER, "history", "template-unfit"), (NO_SYSTEM, "system", "template-fails")],
)
def test_examples_the_chat_template_refuses_are_refused_early(
    micro_model: Path, tmp_path: Path, template: str, beside: str, code: str
) -> None:
    config = config_of(with_template(micro_model, tmp_path / "model", template), tmp_path / "outputs")
    preflight_run(config, {"pairs": 9})
    with pytest.raises(ConfigError) as caught:
        preflight_run(config, {"pairs": 9, f"pairs_with_{beside}": 1})
    assert only_fault(caught).code == code


def test_running_text_needs_no_chat_template(micro_model: Path, tmp_path: Path) -> None:
    folder = with_template(micro_model, tmp_path / "model", None)
    text = {"corpus__task": "text", "corpus__source": "file", "corpus__path": "a.txt"}
    preflight_run(config_of(folder, tmp_path / "outputs", **text))
    preflight_matrix([config_of(folder, tmp_path / "outputs", **text)])
    with pytest.raises(ConfigError) as caught:
        preflight_matrix([config_of(folder, tmp_path / "outputs")])
    assert only_fault(caught).code == "template-missing"
