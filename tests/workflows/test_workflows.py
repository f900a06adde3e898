"""Five ways in which people worked before, as scripts that a user could keep; on real text where there is any."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from medqa_finetune.data.embedded import embedded_rows
from scripts.small_models import write_micro_model
from tests.commands import ROOT
from tests.conftest import SHARED

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# 20, 50 and 100 training pairs and 4 questions; three steps.
SMALL = ("data.scale=0.001", "data.validation_size=4000", "data.test_size=4000", "train.max_steps=3",
         "train.max_length=256", "evaluate.max_new_tokens=8", "tracker=none", "threads=1")  # fmt: skip
Workflow = Callable[..., Path]


def real_pairs() -> Iterator[dict[str, str]]:
    with zstandard.open(SHARED / "data" / "medqa_real.jsonl.zst", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield {"question": row["question"], "answer": row["answer"]}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 real pairs, where the developers' shared folder is; of the embedded corpus elsewhere."""
    rows = real_pairs() if SHARED.is_dir() else iter(embedded_rows())
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in islice(rows, 300)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def running_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a little of WikiText-2, where it is; of the embedded corpus elsewhere."""
    folder = tmp_path_factory.mktemp("text")
    source = SHARED / "data" / "raw" / "wikitext-2"
    for name in ("train", "valid", "test"):
        if SHARED.is_dir():
            lines = (source / f"{'valid' if name == 'train' else name}.txt").read_text(encoding="utf-8").splitlines()
            begin = 200 if name == "train" else 0
        else:
            lines = [row["answer"] for row in islice(embedded_rows(), 600)]
            begin = {"train": 400, "valid": 0, "test": 200}[name]
        (folder / f"{name}.txt").write_text("\n".join(lines[begin : begin + 200]), encoding="utf-8")
    return folder


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """Runs a script with these variables and arguments, and returns the folder that it wrote to."""

    def run(script: str, *arguments: str, **variables: object) -> Path:
        outputs = tmp_path / "outputs"
        outputs.mkdir()
        program = [sys.executable] if script.endswith(".py") else ["bash"]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
            "OUTPUTS": str(outputs), **{name: str(value) for name, value in variables.items()},
        }  # fmt: skip
        done = subprocess.run(
            [*program, str(HERE / script), *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        (outputs / "said.txt").write_text(done.stdout, encoding="utf-8")
        return outputs

    return run


def records(outputs: Path) -> dict[str, dict[str, object]]:
    found = (json.loads(path.read_text("utf-8")) for path in sorted(outputs.glob("**/record.json")))
    return {record["name"]: record for record in found}


def test_a_file_per_experiment(workflow: Workflow, micro_model: Path, pairs: Path) -> None:
    outputs = workflow("1_matrix.sh", *SMALL, MODEL=micro_model, PAIRS=pairs)
    found = records(outputs)
    assert {record["status"] for record in found.values()} == {"done"}
    assert len(found) == 6
    assert (outputs / "summary" / "results_summary.csv").is_file()
    assert "6 of 6 runs done." in (outputs / "said.txt").read_text(encoding="utf-8")


def test_eight_bits_then_scores_then_chat(workflow: Workflow, micro_model: Path, pairs: Path) -> None:
    outputs = workflow("2_eight_bit.sh", *SMALL, MODEL=micro_model, PAIRS=pairs)
    (record,) = records(outputs).values()
    assert record["status"] == "done"
    scores = json.loads((outputs / "scores.json").read_text("utf-8"))
    assert scores["n"] == 4
    assert "rougeL" in scores["scores"]
    assert (outputs / "answer.txt").read_text("utf-8").endswith("\n")


def test_wikitext_with_a_wide_adapter(workflow: Workflow, micro_model: Path, running_text: Path) -> None:
    small = ("train.max_steps=3", "train.max_length=256", "tracker=none", "threads=1")
    outputs = workflow("3_wikitext.sh", *small, MODEL=micro_model, TEXT=running_text)
    found = records(outputs)
    assert {path.parents[1].name for path in outputs.glob("*/*/record.json")} == {"wikitext", "untuned"}
    for record in found.values():
        assert record["evaluation"]["scores"]["perplexity"]["value"] > 1  # type: ignore[index]


def test_four_variants_in_one_command(workflow: Workflow, micro_model: Path, pairs: Path) -> None:
    small = ("data.validation_size=4", "data.test_size=4", "evaluate.max_new_tokens=8", "tracker=none", "threads=1",
             "train.max_steps=3", "train.max_length=256")  # fmt: skip
    outputs = workflow("4_variants.sh", *small, MODEL=micro_model, PAIRS=pairs)
    made = {path.parent.name for path in (outputs / "variants").glob("*/metadata.json")}
    assert made == {"base", "quantized", "lora", "lora_quantized"}


def test_a_pruned_checkpoint_and_a_notebook(workflow: Workflow, pairs: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    old = write_micro_model(tmp_path / "old", "pruned")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(pairs.read_text("utf-8").splitlines()[:40]) + "\n", encoding="utf-8")
    outputs = workflow("5_pruned.py", MODEL=old, PAIRS=few)
    (record,) = records(outputs).values()
    assert record["status"] == "done"
    assert "rougeL" in (outputs / "said.txt").read_text("utf-8")
