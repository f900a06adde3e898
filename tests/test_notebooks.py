"""The notebooks for Colab and Kaggle, executed with the demo: a session that is cut off, and the next one."""

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
COMMAND = re.compile(r"^( *)[!%].*")
SMALL = {
    "MEDQA_PROFILE": "demo",
    "MEDQA_MATRIX": "method=lora data=20k train.checkpoint_steps=5 hydra.launcher.gpus_per_cell=0",
}


def test_there_is_one_for_each_platform() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["colab", "kaggle"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped_and_cells_are_python(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []
    for cell in cells:
        lines = "".join(cell["source"]).splitlines()
        # Lines for IPython are commands.
        ast.parse("\n".join(COMMAND.sub(r"\1pass", line) for line in lines))


def execute(name: str, place: Path, **variables: str) -> str:
    """Run a notebook as a session in a folder, and return what its cells printed."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    place.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        # `!python` is the Python of these tests.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        for key, value in {**SMALL, "PATH": path, **variables}.items():
            monkeypatch.setenv(key, value)
        client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    return "".join(output.get("text", "") + str(output.get("data", {}).keys()) for output in outputs)


def record_in(place: Path) -> dict[str, object]:
    (path,) = place.glob("outputs/demo/*/record.json")
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drive after a session that was cut off."""
    place = tmp_path_factory.mktemp("first")
    execute("colab", place, MEDQA_STORAGE=str(place / "drive"), MEDQA_TIME_LIMIT="25s")
    assert record_in(place)["status"] != "done"
    # On a slow machine, the time is over before anything was stored.
    (place / "drive").mkdir(exist_ok=True)
    return place / "drive"


@pytest.mark.slow
def test_the_next_session_on_colab_goes_on_from_the_drive(drive: Path, tmp_path: Path) -> None:
    own = shutil.copytree(drive, tmp_path / "drive")
    said = execute("colab", tmp_path / "session", MEDQA_STORAGE=str(own), MEDQA_TIME_LIMIT="1h")
    assert record_in(tmp_path / "session")["status"] == "done"
    assert "image/png" in said


@pytest.mark.slow
def test_the_next_session_on_kaggle_goes_on_from_an_earlier_output(drive: Path, tmp_path: Path) -> None:
    given = tmp_path / "input" / "notebooks" / "me" / "medqa-on-kaggle"
    shutil.copytree(drive, given / "medqa")
    said = execute("kaggle", tmp_path / "session", MEDQA_INPUT=str(tmp_path / "input"), MEDQA_TIME_LIMIT="1h")
    assert "resumes from" in said
    assert record_in(tmp_path / "session")["status"] == "done"
