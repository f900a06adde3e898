"""What is read of a model's folder without loading it, and what is found wrong there."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from medqa_finetune.architecture.files import check_tokenizer_files, read_config, read_header, read_tensors
from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model.locate import locate_model
from tests.faulty import only_fault

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, micro_model: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "model"))


def refusal(folder: Path) -> Fault:
    with pytest.raises(ModelError) as caught:
        locate_model(ModelConfig(name="m", path=str(folder)))
    return only_fault(caught)


def safetensors(header: object, weights: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + weights


def test_tensors_are_those_that_safetensors_loads(micro_model: Path) -> None:
    found = {name: tensor.shape for name, tensor in read_tensors(micro_model).items()}
    assert found == {name: tuple(tensor.shape) for name, tensor in load_file(micro_model / WEIGHTS).items()}


def test_tensors_of_all_shards_are_found(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(
        safetensors({"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}, bytes(12))
    )
    (folder / "more.safetensors").write_bytes(
        safetensors(
            {"__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, bytes(4)
        )
    )
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": WEIGHTS, "b": "more.safetensors"}}), encoding="utf-8"
    )
    tensors = read_tensors(folder)
    assert {name: (tensor.dtype, tensor.shape, tensor.numbers) for name, tensor in tensors.items()} == {
        "a": ("F16", (2, 3), 6), "b": ("F32", (), 1),
    }  # fmt: skip


@pytest.mark.parametrize("size", [0, 7, 8, 100, 3000, -4000, -1])
def test_a_download_that_broke_off_is_refused_with_the_files_name(size: int, folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])
    fault = refusal(folder)
    assert (fault.code, fault.file) == ("damaged-file", str(folder / WEIGHTS))
    assert "Download" in fault.hint


def test_a_shard_that_broke_off_is_named_with_both_sizes(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / "model-00001-of-00001.safetensors").write_bytes(content[:-10_000])
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}), encoding="utf-8"
    )
    fault = refusal(folder)
    assert (fault.code, fault.file) == ("damaged-file", str(folder / "model-00001-of-00001.safetensors"))
    assert f"{len(content) - 10_000:,}" in fault.problem
    assert f"{len(content):,}" in fault.problem


def test_a_file_that_is_too_long_is_refused(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    assert (refusal(folder).code, refusal(folder).file) == ("damaged-file", str(folder / WEIGHTS))


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"[]", b"\xff", b"[" * 100_000, {"a": 1}, {"a": {"dtype": "F32", "shape": [1]}}, {"a": {}},
        {"a": {"dtype": "F32", "shape": 3, "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
    ],
    ids=lambda header: str(header)[:40],
)  # fmt: skip
def test_a_damaged_header_is_refused(header: object, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(safetensors(header, bytes(4)))
    assert (refusal(folder).code, refusal(folder).file) == ("damaged-file", str(folder / WEIGHTS))


def test_what_git_lfs_left_in_place_of_the_weights_is_named(folder: Path) -> None:
    (folder / WEIGHTS).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    assert (refusal(folder).code, refusal(folder).file) == ("lfs-pointer", str(folder / WEIGHTS))
    assert "git lfs pull" in refusal(folder).hint


@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(safetensors)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_lead_to_another_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        read_header(path)


def test_a_weight_file_that_is_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_header(folder)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-readable", str(folder))


@pytest.mark.parametrize("text", ["", "{", "\udcff", "[" * 100_000])
def test_a_config_that_is_no_json_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert (refusal(folder).code, refusal(folder).file) == ("not-json", str(folder / "config.json"))
    assert "save_pretrained" in refusal(folder).hint


@pytest.mark.parametrize("text", ["[]", "null", '"qwen2"', "3"])
def test_a_config_that_is_no_object_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    fault = refusal(folder)
    assert (fault.code, fault.file, fault.got) == ("wrong-type", str(folder / "config.json"), json.loads(text))


def test_a_config_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert (refusal(folder).code, refusal(folder).file) == ("not-readable", str(folder / "config.json"))


def test_the_config_is_returned_as_it_is(micro_model: Path) -> None:
    assert read_config(micro_model) == json.loads((micro_model / "config.json").read_text())


# transformers makes an empty tokenizer of each of these, without a word.
@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"], ["vocab.json"], ["merges.txt"]])
def test_a_folder_without_a_vocabulary_is_refused(left: list[str], folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    for name in left:
        (folder / name).write_text("{}")
    assert (refusal(folder).code, refusal(folder).file) == ("tokenizer-missing", str(folder))
    assert "tokenizer.json" in refusal(folder).hint


def test_an_empty_vocabulary_is_none(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b"")
    assert refusal(folder).code == "tokenizer-missing"


@pytest.mark.parametrize(
    "names",
    [["vocab.json", "merges.txt"], ["tokenizer.model"], ["spiece.model"], ["qwen.tiktoken"], ["tekken.json"]],
    ids=" ".join,
)
def test_every_usual_kind_of_vocabulary_is_taken(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    check_tokenizer_files(tmp_path)
