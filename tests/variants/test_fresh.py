"""What a process that does the work tells the one that waits for it: an answer, or faults with all their fields."""

from pathlib import Path

import pytest

from medqa_finetune.errors import ModelError, RunError
from medqa_finetune.record.schema import Environment
from medqa_finetune.variants.fresh import in_fresh_process
from medqa_finetune.variants.write_files import Making
from tests.faulty import only_fault
from tests.variants.runs import LORA


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def making(folder: Path, *, variant: str = "base", precision: str = "auto") -> Making:
    return Making(variant, folder, folder, folder, LORA, LORA, precision, "fp32")


def test_faults_of_the_process_keep_their_fields(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        in_fresh_process("build", making(tmp_path, precision="fp16"), Environment)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("needs-gpu", "precision", "fp16")
    assert fault.allowed == ("auto", "fp32", "bf16")


def test_a_defect_in_the_process_is_a_fault_with_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as caught:
        in_fresh_process("build", making(tmp_path, variant="nix"), Environment)
    assert only_fault(caught).code == "unexpected"
    assert "KeyError" in only_fault(caught).problem
    assert "Traceback" in capfd.readouterr().err


def test_a_process_without_an_answer_is_named_by_what_it_worked_on(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        in_fresh_process("nowhere", making(tmp_path), Environment)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("process-ended", str(tmp_path))
