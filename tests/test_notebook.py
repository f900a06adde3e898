"""In a real kernel: one line that changes, and no warnings of other packages."""

import json
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
pytest.importorskip("ipykernel", reason="needs ipykernel")

PYTHON = """
import medqa_finetune
pairs = [(f"question {number}", f"answer {number}") for number in range(60)]
run = medqa_finetune.finetune(
    "tiny", pairs, "lora", threads=1, tracker="none", data={"validation_size": 5, "test_size": 5},
    train={"max_steps": 1, "max_length": 64}, evaluate={"max_new_tokens": 2},
)
"""
COMMAND = (
    "!python -c 'from medqa_finetune.log import is_terminal; import sys; print(sys.stderr.isatty(), is_terminal())'"
)


@pytest.mark.slow
def test_a_notebook_shows_one_line_and_no_warnings(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (PYTHON, COMMAND)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    trained, typed = notebook.cells
    assert [output["output_type"] for output in trained.outputs] == ["display_data"], json.dumps(trained.outputs)
    assert trained.outputs[0]["data"]["text/plain"] == "done"
    # The terminal of a `!` cell is one that nobody emulates.
    assert "".join(output["text"] for output in typed.outputs).split() == ["True", "False"]
