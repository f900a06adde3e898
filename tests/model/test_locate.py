import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model import locate
from medqa_finetune.model.locate import fingerprint_model, has_weights, locate_architecture, locate_model
from tests.faulty import only_fault

REPOSITORY_ID = "Qwen/Qwen2.5-3B-Instruct"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, whatever the machine has."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def folder(tmp_path: Path, micro_model: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "model"))


def at(path: Path | str, repository: str | None = None) -> ModelConfig:
    return ModelConfig(name="qwen2.5-3b", path=str(path), repository=repository)


def refusal(model: ModelConfig) -> Fault:
    with pytest.raises(ModelError) as caught:
        locate_model(model)
    return only_fault(caught)


def write_index(folder: Path, *shards: str) -> None:
    weights = {f"layer.{number}": shard for number, shard in enumerate(shards)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def cache_on_disk(cache: Path, model: Path) -> Path:
    """Lay a model out as huggingface_hub does: a branch names a commit, the commit is a folder."""
    home = cache / "models--Qwen--Qwen2.5-3B-Instruct"
    snapshot = Path(shutil.copytree(model, home / "snapshots" / COMMIT))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    return snapshot


def flip_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_whole_folder_is_taken(folder: Path) -> None:
    assert locate_model(at(folder)) == folder


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert locate_model(at("~/model")) == folder


def test_hub_cache_is_used_where_the_folder_is_missing(hub_cache: Path, micro_model: Path) -> None:
    snapshot = cache_on_disk(hub_cache, micro_model)
    assert locate_model(at("no/such/folder", REPOSITORY_ID)) == snapshot


def test_folder_comes_before_the_hub_cache(hub_cache: Path, micro_model: Path, folder: Path) -> None:
    cache_on_disk(hub_cache, micro_model)
    assert locate_model(at(folder, REPOSITORY_ID)) == folder


def test_revision_that_is_not_in_the_cache_is_missing(hub_cache: Path, micro_model: Path) -> None:
    cache_on_disk(hub_cache, micro_model)
    other = ModelConfig(name="qwen2.5-3b", path="no/such/folder", repository=REPOSITORY_ID, revision="v2")
    assert (refusal(other).code, refusal(other).got) == ("model-missing", "no/such/folder")
    assert REPOSITORY_ID in refusal(other).problem


def test_missing_model_names_the_download_and_the_demo(tmp_path: Path) -> None:
    fault = refusal(at(tmp_path / "none", REPOSITORY_ID))
    assert (fault.code, fault.key, fault.got) == ("model-missing", "model.path", str(tmp_path / "none"))
    assert "`medqa-download model=qwen2.5-3b`" in fault.hint
    assert "profile=demo" in fault.hint


def test_missing_local_model_says_what_is_needed(tmp_path: Path) -> None:
    fault = refusal(at(tmp_path / "none"))
    assert (fault.code, fault.key) == ("model-missing", "model.path")
    assert "config.json" in fault.hint
    assert "medqa-download" not in fault.hint


@pytest.mark.parametrize("repository", [None, REPOSITORY_ID])
def test_a_file_is_not_a_folder(repository: str | None, folder: Path) -> None:
    fault = refusal(at(folder / "config.json", repository))
    assert (fault.code, fault.key, fault.got) == ("not-a-folder", "model.path", str(folder / "config.json"))


def test_unusable_repository_name_is_missing_not_a_crash(tmp_path: Path) -> None:
    assert refusal(at(tmp_path / "none", "not a repository")).code == "model-missing"


@pytest.mark.parametrize("path", ["embedded:nix", "embedded:", "embedded:..", "embedded:../data"])
def test_unknown_embedded_model_names_the_one_that_ships(path: str) -> None:
    fault = refusal(at(path))
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "model.path", path)
    assert fault.allowed == ("embedded:tiny",)


def test_missing_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    fault = refusal(at(folder))
    assert (fault.code, fault.file) == ("file-missing", str(folder / "config.json"))


def test_pickled_weights_alone_are_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fault = refusal(at(folder))
    assert (fault.code, fault.file) == ("pickled-weights", str(folder))
    assert "pytorch_model.bin" in fault.problem
    assert f"`python -m medqa_finetune.convert {folder} NEW_FOLDER`" in fault.hint


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    fault = refusal(at(folder))
    assert (fault.code, fault.file) == ("file-missing", str(folder / "model.safetensors"))


def test_missing_shard_is_named_and_counted(folder: Path) -> None:
    write_index(folder, "model.safetensors", "lost.safetensors", "lost.safetensors")
    fault = refusal(at(folder))
    assert (fault.code, fault.got) == ("file-missing", "lost.safetensors")
    assert fault.file == str(folder / "model.safetensors.index.json")
    assert "1 of 2" in fault.problem


def test_a_shard_with_an_endless_name_is_named_in_brief(folder: Path) -> None:
    write_index(folder, "x\0" * 3000)
    assert refusal(at(folder)).code == "file-missing"
    assert len(refusal(at(folder)).line()) < 1000


def test_all_shards_are_enough(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    write_index(folder, "model-00001-of-00001.safetensors")
    assert locate_model(at(folder)) == folder


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": [1]}}', "\udcff"])
def test_broken_index_is_refused(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    fault = refusal(at(folder))
    assert (fault.code, fault.file) == ("damaged-file", str(folder / "model.safetensors.index.json"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"])
def test_fingerprint_changes_with_one_byte_of_a_small_file(folder: Path, name: str) -> None:
    before = fingerprint_model(folder)
    flip_byte(folder / name, -2)
    assert fingerprint_model(folder) != before


def test_fingerprint_changes_with_a_files_name(folder: Path) -> None:
    before = fingerprint_model(folder)
    (folder / "generation_config.json").rename(folder / "renamed.json")
    assert fingerprint_model(folder) != before


def test_fingerprint_depends_neither_on_path_nor_on_time(folder: Path, tmp_path: Path) -> None:
    before = fingerprint_model(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    for path in moved.iterdir():
        os.utime(path, (0, 0))
    assert fingerprint_model(moved) == before


def test_fingerprint_leaves_out_what_is_no_part_of_the_model(folder: Path) -> None:
    before = fingerprint_model(folder)
    (folder / "README.md").write_text("read me")
    (folder / ".cache").mkdir()
    assert fingerprint_model(folder) == before


@pytest.fixture
def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weight file that is larger than what is hashed whole: a header of 150,000 bytes and 50 MiB of zeros.

    256 samples of 64 KiB cover 16 MiB of it, so two thirds are never read, of the header what is behind 64 KiB.
    """
    monkeypatch.setattr(locate, "WHOLE_FILE_BYTES", 2**18)
    path = folder / "model.safetensors"
    path.write_bytes((150_000).to_bytes(8, "little") + b"h" * 150_000 + bytes(50 * 2**20))
    return path


def test_fingerprint_of_a_large_file_sees_its_header(large: Path) -> None:
    before = fingerprint_model(large.parent)
    flip_byte(large, 100_000)
    assert fingerprint_model(large.parent) != before


def test_fingerprint_of_a_large_file_sees_its_size(large: Path) -> None:
    before = fingerprint_model(large.parent)
    with large.open("ab") as file:
        file.write(b"\0")
    assert fingerprint_model(large.parent) != before


@pytest.mark.parametrize("place", [5 * 2**20, 25 * 2**20, -1])
def test_fingerprint_of_a_large_file_sees_other_weights(large: Path, place: int) -> None:
    before = fingerprint_model(large.parent)
    content = bytearray(large.read_bytes())
    start = len(content) + place if place < 0 else place
    content[max(0, start - 2**18) : start + 1] = b"\1" * (start + 1 - max(0, start - 2**18))
    large.write_bytes(content)
    assert fingerprint_model(large.parent) != before


def test_an_architecture_needs_no_weights(tmp_path: Path, micro_model: Path) -> None:
    folder = Path(shutil.copytree(micro_model, tmp_path / "bare"))
    model = ModelConfig(name="bare", path=str(folder))
    assert locate_architecture(model) == folder == locate_model(model)
    (folder / "model.safetensors").unlink()
    assert locate_architecture(model) == folder
    assert not has_weights(folder)
    with pytest.raises(ModelError):
        locate_model(model)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError) as caught:
        locate_architecture(model)
    assert only_fault(caught).code == "tokenizer-missing"
    (folder / "config.json").unlink()
    with pytest.raises(ModelError) as caught:
        locate_architecture(model)
    assert (only_fault(caught).code, only_fault(caught).key) == ("model-missing", "model.path")
    assert "To plan alone, config.json" in only_fault(caught).hint


def test_weights_that_are_there_and_damaged_are_refused_for_a_plan_as_well(tmp_path: Path, micro_model: Path) -> None:
    folder = Path(shutil.copytree(micro_model, tmp_path / "torn"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError) as caught:
        locate_architecture(ModelConfig(name="torn", path=str(folder)))
    assert only_fault(caught).file == str(folder / "model.safetensors")
