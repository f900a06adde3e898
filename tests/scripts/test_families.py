"""Every method with every family of models: trained, evaluated, saved, and loaded again by the README's own code."""

from pathlib import Path

import pytest

from scripts.families import METHODS, readme_code, run_cell
from scripts.small_models import FAMILIES, HEADS, INTERMEDIATE, KEY_HEADS, write_micro_model


def test_the_code_of_the_readme_needs_transformers_and_peft_alone() -> None:
    imported = [line.split()[1] for line in readme_code().splitlines() if line.startswith(("import", "from"))]
    assert imported == ["torch", "peft", "transformers"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_left_says_what_the_run_said(family: str, method: str, tmp_path: Path) -> None:
    cell = run_cell(family, method, write_micro_model(tmp_path / "base", family), tmp_path / "outputs")
    assert cell.record.status == "done"
    assert cell.record.train is not None
    assert cell.record.train.steps == 4
    assert cell.record.evaluation is not None
    assert cell.record.evaluation.n == 4
    assert cell.in_process.ids == cell.again.ids
    assert cell.in_process.tokens == cell.again.tokens
    assert cell.agrees, f"logits are {cell.apart:.1e} apart"
    layers = cell.record.layers
    assert (layers is not None) is (family == "pruned")
    if layers is not None:
        assert (layers.heads, layers.key_heads, layers.intermediate) == (HEADS, KEY_HEADS, INTERMEDIATE)
