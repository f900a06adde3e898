"""Who may be talked to: finished runs with their own base model, and adapters on the model that they name."""

import json
import shutil
from pathlib import Path

import pytest

from medqa_finetune.chatting.sources import find_model_config, source_of_model, source_of_run
from medqa_finetune.errors import ConfigError, DataError, ModelError
from medqa_finetune.record.run_dir import RunDir
from tests.chatting.runs import another_model, change_record, write_run
from tests.faulty import only_fault


@pytest.fixture
def base(micro_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "base"))


@pytest.fixture
def run(base: Path, tmp_path: Path) -> RunDir:
    return write_run(tmp_path / "runs" / "lora_20k", base)


def test_a_run_answers_as_it_was_evaluated(run: RunDir, base: Path) -> None:
    source = source_of_run(run.path)
    assert (source.name, source.model, source.adapter) == ("lora_20k", base, run.adapter_path)
    assert source.tokenizer == run.adapter_path
    assert (source.max_length, source.max_new_tokens, source.precision) == (128, 12, "auto")


def test_a_full_run_is_a_whole_model(base: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "full_20k", base, name="full", trains="all")
    source = source_of_run(run.path)
    assert (source.model, source.adapter) == (run.adapter_path, None)
    quantized = source.with_quantization("nf4")
    assert (quantized.method.trains, quantized.method.quantization) == ("nothing", "nf4")


def test_a_run_that_trained_nothing_is_its_base(base: Path, tmp_path: Path) -> None:
    source = source_of_run(write_run(tmp_path / "none", base, name="none", trains="nothing").path)
    assert (source.model, source.adapter, source.tokenizer) == (base, None, base)


def test_a_source_can_be_quantized_differently(run: RunDir) -> None:
    source = source_of_run(run.path)
    assert source.with_quantization(None) is source
    for name, double in (("nf4", True), ("int8", False)):
        method = source.with_quantization(name).method
        assert (method.trains, method.quantization, method.double_quantization) == ("adapter", name, double)


def test_a_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        source_of_run(tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-a-run", "run", str(tmp_path))


@pytest.mark.parametrize("status", ["pending", "running", "trained", "evaluated", "failed", "interrupted"])
def test_an_unfinished_run_is_refused(run: RunDir, status: str) -> None:
    change_record(run, status=status)
    with pytest.raises(DataError) as caught:
        source_of_run(run.path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("run-not-done", "run", str(run.path))
    assert status in fault.problem


def test_damaged_weights_are_refused(run: RunDir) -> None:
    path = run.adapter_path / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        source_of_run(run.path)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("changed-file", "run")
    assert "adapter_model.safetensors" in fault.problem
    assert "overwrite=true" in fault.hint


def test_a_base_that_is_gone_is_named(run: RunDir, base: Path) -> None:
    shutil.rmtree(base)
    with pytest.raises(ModelError) as caught:
        source_of_run(run.path)
    assert (only_fault(caught).code, only_fault(caught).got) == ("model-missing", str(base))


def test_a_base_with_other_weights_is_refused(run: RunDir, base: Path, micro_model: Path, tmp_path: Path) -> None:
    other = another_model(micro_model, tmp_path / "other")
    with pytest.raises(ModelError) as caught:
        source_of_run(run.path, str(other))
    assert (only_fault(caught).code, only_fault(caught).key) == ("other-base-model", "run")
    assert "model=FOLDER" in only_fault(caught).hint
    shutil.rmtree(base)
    shutil.copytree(other, base)
    with pytest.raises(ModelError) as caught:
        source_of_run(run.path)
    assert only_fault(caught).code == "other-base-model"


@pytest.mark.parametrize(("model", "key"), [(None, "model.path"), ("nowhere", "model")])
def test_a_missing_base_is_named_by_key(model: str | None, key: str, run: RunDir, base: Path) -> None:
    shutil.rmtree(base)
    with pytest.raises(ModelError) as caught:
        source_of_run(run.path, model)
    assert (only_fault(caught).code, only_fault(caught).key) == ("model-missing", key)


def test_a_moved_base_is_given_by_model(run: RunDir, base: Path, tmp_path: Path) -> None:
    moved = base.rename(tmp_path / "moved")
    assert source_of_run(run.path, str(moved)).model == moved


def test_a_record_of_another_version_is_refused(run: RunDir) -> None:
    change_record(run, config__train=None)
    with pytest.raises(DataError) as caught:
        source_of_run(run.path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("missing-key", "train", str(run.record_path))


def test_an_unknown_method_setting_is_refused(run: RunDir) -> None:
    method = json.loads(run.record_path.read_bytes())["config"]["method"]
    change_record(run, config__method=method | {"sparsity": 0.5})
    with pytest.raises(DataError) as caught:
        source_of_run(run.path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("unknown-key", "config.method.sparsity", 0.5)
    assert fault.file == str(run.record_path)


def test_paths_from_the_environment_are_resolved(run: RunDir, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = json.loads(run.record_path.read_bytes())["config"]["model"]
    change_record(run, config__model=model | {"path": "${oc.env:MEDQA_BASE}"})
    with pytest.raises(ConfigError) as caught:
        source_of_run(run.path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("unresolved", "model.path", str(run.record_path))
    assert "MEDQA_BASE" in fault.problem
    monkeypatch.setenv("MEDQA_BASE", str(base))
    assert source_of_run(run.path).model == base


def test_a_model_is_named_or_a_folder(base: Path) -> None:
    assert find_model_config("tiny").path == "embedded:tiny"
    assert find_model_config(str(base)).path == str(base)
    assert source_of_model(str(base)).name == "base"
    assert source_of_model("tiny").name == "tiny"


@pytest.fixture
def adapter(run: RunDir, tmp_path: Path) -> Path:
    """An adapter outside a run, as somebody else may send one."""
    return Path(shutil.copytree(run.adapter_path, tmp_path / "sent"))


def names_base(adapter: Path, base: str) -> None:
    path = adapter / "adapter_config.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"base_model_name_or_path": base}), encoding="utf-8")


def test_an_adapter_needs_its_base_model(adapter: Path, base: Path, tmp_path: Path) -> None:
    assert source_of_model(str(base), str(adapter)).adapter == adapter
    copy = shutil.copytree(base, tmp_path / "a-copy")
    assert source_of_model(str(copy), str(adapter)).name == "a-copy+sent"
    names_base(adapter, "Somebody/A-Copy")
    assert source_of_model(str(copy), str(adapter)).model == copy


@pytest.mark.parametrize("by", ["name", "content", "record"])
def test_an_adapter_of_another_base_is_refused(
    by: str, run: RunDir, adapter: Path, micro_model: Path, tmp_path: Path
) -> None:
    other = another_model(micro_model, tmp_path / "other")
    if by == "name":
        names_base(adapter, "Qwen/Qwen2.5-3B-Instruct")
    chosen = run.adapter_path if by == "record" else adapter
    with pytest.raises(ModelError) as caught:
        source_of_model(str(other), str(chosen))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("other-base-model", "adapter", str(chosen))
    assert "any_base=true" in fault.hint
    assert source_of_model(str(other), str(chosen), any_base=True).adapter == chosen


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("adapter_config.json", None, "file-missing"),
        ("adapter_config.json", b"{", "not-json"),
        ("adapter_config.json", b"[]", "wrong-type"),
        ("adapter_model.safetensors", None, "file-missing"),
        ("adapter_model.safetensors", b"torn", "damaged-file"),
    ],
)
def test_a_broken_adapter_is_refused(file: str, content: bytes | None, code: str, adapter: Path, base: Path) -> None:
    (adapter / file).unlink()
    if content is not None:
        (adapter / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        source_of_model(str(base), str(adapter))
    fault = only_fault(caught)
    assert fault.code == code
    if content is None:
        assert (fault.key, fault.got) == ("adapter", str(adapter))
    else:
        assert fault.file == str(adapter / file)
