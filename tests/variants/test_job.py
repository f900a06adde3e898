"""What an export refuses before anything is loaded or written."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import MedQAError
from medqa_finetune.record.checksums import stamps_below
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment
from medqa_finetune.variants.job import ExportJob, check_request, check_room, expected_sizes
from medqa_finetune.variants.metadata import Metadata, write_metadata
from medqa_finetune.variants.request import ExportRequest
from tests.commands import files_below
from tests.faulty import only_fault
from tests.variants.runs import LORA, QLORA, write_record, write_run


@pytest.fixture
def base(micro_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "base"))


@pytest.fixture
def run(base: Path, tmp_path: Path) -> RunDir:
    return write_run(tmp_path / "outputs" / "lora_20", base, LORA)


def edited(run: RunDir, **changes: Any) -> None:
    content = json.loads(run.record_path.read_bytes()) | changes
    run.record_path.write_text(json.dumps(content), encoding="utf-8")


def exported(found: ExportJob, name: str) -> Path:
    """Write what stands for a variant that an earlier export has finished."""
    folder = found.folder / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    metadata = Metadata(
        name, "", found.made_from(), found.settings(name), stamps_below(folder), 7,
        Environment({}, "CPU", "fp32", None, []), "now",
    )  # fmt: skip
    write_metadata(folder, metadata)
    return folder


def test_a_finished_run_can_be_exported(run: RunDir, base: Path) -> None:
    found = check_request(run, ExportRequest())
    assert found.base == base
    assert found.folder == run.path / "export"
    assert found.variants == ["base", "quantized", "lora", "merged", "lora_quantized"]
    assert (found.quantization.quantization, found.dtype) == ("nf4", "fp32")


def no_record(run: RunDir) -> None:
    run.record_path.unlink()


def interrupted(run: RunDir) -> None:
    edited(run, status="interrupted")


def damaged(run: RunDir) -> None:
    path = run.adapter_path / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def without_adapter(run: RunDir) -> None:
    shutil.rmtree(run.adapter_path)


def base_gone(run: RunDir) -> None:
    (run.path.parents[1] / "base").rename(run.path.parents[1] / "elsewhere")


def base_changed(run: RunDir) -> None:
    path = run.path.parents[1] / "base" / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("1e-06", "1e-05"), encoding="utf-8")


def base_cut(run: RunDir) -> None:
    path = run.path.parents[1] / "base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def target_is_a_file(run: RunDir) -> None:
    run.export_path.write_text("no folder", encoding="utf-8")


def something_else_there(run: RunDir) -> None:
    (run.export_path / "base").mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "code", "place", "remedy"),
    [
        (no_record, "not-a-run", "outputs/lora_20", ""),
        (interrupted, "run-not-done", "outputs/lora_20", "The command that started it"),
        (damaged, "changed-file", "outputs/lora_20", "overwrite=true"),
        (without_adapter, "changed-file", "outputs/lora_20", "overwrite=true"),
        (base_gone, "model-missing", "base", "give export.base=DIR"),
        (base_changed, "other-base-model", "outputs/lora_20", "export.base=DIR"),
        (base_cut, "damaged-file", "base/model.safetensors", "give export.base=DIR"),
        (target_is_a_file, "not-a-folder", "outputs/lora_20/export", ""),
        (something_else_there, "not-an-export", "outputs/lora_20/export/base", "export.to=DIR"),
    ],
)
def test_impossible_exports_write_nothing(run: RunDir, change: Any, code: str, place: str, remedy: str) -> None:
    change(run)
    before = files_below(run.path.parents[1])
    with pytest.raises(MedQAError) as caught:
        check_request(run, ExportRequest())
    fault = only_fault(caught)
    assert (fault.code, fault.file or fault.got) == (code, str(run.path.parents[1] / place))
    assert remedy in fault.hint
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2
    assert files_below(run.path.parents[1]) == before


def test_a_wrong_base_path_is_named(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(MedQAError) as caught:
        check_request(run, ExportRequest(base=str(tmp_path / "nowhere")))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("model-missing", "export.base", str(tmp_path / "nowhere"))
    assert "export.base" not in fault.hint


def test_a_torn_metadata_file_is_named(run: RunDir) -> None:
    path = exported(check_request(run, ExportRequest()), "base") / "metadata.json"
    content = json.loads(path.read_bytes())
    wrong = {
        "not-json": "{", "wrong-type": json.dumps(content | {"size_bytes": "7"}),
        "missing-key": json.dumps({key: value for key, value in content.items() if key != "size_bytes"}),
    }  # fmt: skip
    for code, text in wrong.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MedQAError) as caught:
            check_request(run, ExportRequest())
        fault = only_fault(caught)
        assert (fault.code, fault.file) == (code, str(path))
        assert fault.key == (None if code == "not-json" else "size_bytes")
        assert "overwrite=true" in fault.hint


def test_a_moved_base_is_used(run: RunDir) -> None:
    base_gone(run)
    elsewhere = run.path.parents[1] / "elsewhere"
    assert check_request(run, ExportRequest(base=str(elsewhere))).base == elsewhere


def test_finished_variants_are_known_again(run: RunDir) -> None:
    exported(check_request(run, ExportRequest()), "merged")
    found = check_request(run, ExportRequest())
    assert list(found.existing) == ["merged"]
    assert check_request(run, ExportRequest(overwrite=True)).existing == {}


@pytest.mark.parametrize(
    ("asked", "change"),
    [(ExportRequest(dtype="bf16"), "dtype: fp32 -> bf16"), (ExportRequest(quantization="fp4"), "nf4 -> fp4")],
)
def test_other_settings_are_refused_with_the_keys(run: RunDir, asked: ExportRequest, change: str) -> None:
    folder = exported(check_request(run, ExportRequest()), "quantized")
    with pytest.raises(MedQAError) as caught:
        check_request(run, asked)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("other-export", str(folder))
    assert change in fault.problem
    assert "overwrite=true" in fault.hint


def test_a_damaged_variant_is_refused_with_the_file(run: RunDir) -> None:
    (exported(check_request(run, ExportRequest()), "base") / "model.safetensors").write_bytes(b"wrights")
    with pytest.raises(MedQAError) as caught:
        check_request(run, ExportRequest())
    assert only_fault(caught).code == "other-export"
    assert "model.safetensors" in only_fault(caught).problem


def test_a_variant_of_another_run_is_refused(run: RunDir, base: Path, tmp_path: Path) -> None:
    exported(check_request(run, ExportRequest(to=str(tmp_path / "models"))), "lora")
    other = write_run(tmp_path / "outputs" / "qlora_20", base, QLORA)
    with pytest.raises(MedQAError) as caught:
        check_request(other, ExportRequest(to=str(tmp_path / "models")))
    assert only_fault(caught).code == "other-export"
    assert "identity: " in only_fault(caught).problem
    assert "method: lora -> qlora" in only_fault(caught).problem


def test_a_run_that_was_moved_keeps_its_variants(run: RunDir, tmp_path: Path) -> None:
    exported(check_request(run, ExportRequest()), "base")
    moved = RunDir(run.path.rename(tmp_path / "moved"))
    assert list(check_request(moved, ExportRequest()).existing) == ["base"]


def test_a_small_disk_is_refused_beforehand(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(run.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(MedQAError) as caught:
        check_request(run, ExportRequest())
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("disk-full", str(run.export_path))
    assert re.findall(r"1[67]\.\d MiB|1\.0 MiB", fault.problem)[1:] == ["1.0 MiB"]
    assert "export.to=DIR" in fault.hint


def test_merged_and_quantized_needs_space_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"merged": 100 * 2**20, "lora_quantized": 30 * 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 60 * 2**20))
    with pytest.raises(MedQAError) as caught:
        check_room(tmp_path, ["lora_quantized"], sizes)
    assert only_fault(caught).code == "disk-full"
    assert "146.0 MiB" in only_fault(caught).problem
    check_room(tmp_path, [], sizes)


def test_sizes_are_expected_as_they_come_out(run: RunDir, base: Path) -> None:
    """What was expected stays above the true size, and within a few percent or the headers of the files."""
    found = check_request(run, ExportRequest())
    sizes = expected_sizes(base, found.quantization, "fp32")
    true = sum(path.stat().st_size for path in base.iterdir())
    assert abs(sizes["base"] - true) < 1000
    assert sizes["quantized"] < sizes["merged"]


def test_unstamped_predictions_are_still_exported(run: RunDir) -> None:
    record = run.read()
    assert record is not None
    write_record(run, record.config, LORA)
    assert check_request(run, ExportRequest()).variants
