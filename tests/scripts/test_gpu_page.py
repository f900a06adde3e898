"""`scripts/gpu_page.py`: docs/gpu.md is what the table of cards and the roofline compute."""

from pathlib import Path

import pytest

from scripts import gpu_page


@pytest.mark.slow
def test_the_page_is_what_is_computed() -> None:
    assert gpu_page.main(["--check"]) == 0


def test_a_page_that_is_not_what_is_computed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_page, "PAGE", tmp_path / "gpu.md")
    monkeypatch.setattr(gpu_page, "page", lambda: "| T4 | 1.1 |\n")
    assert gpu_page.main(["--check"]) == 1
    assert "python scripts/gpu_page.py" in capsys.readouterr().err
    assert gpu_page.main([]) == gpu_page.main(["--check"]) == 0


@pytest.mark.parametrize(("card", "again"), [("t4", True), ("h200", False)])
def test_a_card_takes_what_auto_becomes_on_it(card: str, again: bool) -> None:
    cells = gpu_page.cells_on(card)
    assert {cell.config.train.gradient_checkpointing for cell in cells.values()} == {again}
    assert gpu_page.training_hours(cells["qlora"], 20_000) > gpu_page.training_hours(cells["lora"], 20_000)
