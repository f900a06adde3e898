"""`scripts/convert_checkpoint.py`: pickled weights become safetensors; whatever is no tensor is refused unread."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scripts.small_models import write_micro_model

Run = Callable[..., Any]


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def pickled(folder: Path, base: Path, *, legacy: bool = False) -> dict[str, torch.Tensor]:
    """Write a model with its weights pickled, the head beside the embedding that it shares, and return these."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if "lm_head.weight" not in weights:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    return weights


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_weights_tokenizer_and_configuration_come_through(
    legacy: bool, micro_model: Path, tmp_path: Path, run_script: Run
) -> None:
    weights = pickled(tmp_path / "old", micro_model, legacy=legacy)
    (tmp_path / "old" / "code.py").write_text("")
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 0, outcome.err
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() == weights.keys() - {"lm_head.weight"}
    assert all(torch.equal(found[name], weights[name]) for name in found)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "new" / name).read_bytes() == (micro_model / name).read_bytes()
    assert not (tmp_path / "new" / "code.py").exists()
    assert "model=local model.path=new" in outcome.out
    assert (tmp_path / "old" / "pytorch_model.bin").exists()


def test_the_converted_model_says_the_same(micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    from transformers import AutoModelForCausalLM

    pickled(tmp_path / "old", micro_model)
    assert run_script("convert_checkpoint", "old", "new").code == 0
    ids = torch.tensor([[5, 60, 7]])
    models: list[Any] = [AutoModelForCausalLM.from_pretrained(folder) for folder in (micro_model, tmp_path / "new")]
    with torch.no_grad():
        assert torch.equal(models[0](ids).logits, models[1](ids).logits)


def test_a_pruned_model_keeps_its_shapes(tmp_path: Path, run_script: Run) -> None:
    weights = pickled(tmp_path / "old", write_micro_model(tmp_path / "pruned", "pruned"))
    assert run_script("convert_checkpoint", "old", "new").code == 0
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in weights.items() if name != "lm_head.weight"
    }


def test_shards_are_read_by_their_index(micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    weights = pickled(tmp_path / "old", micro_model)
    old, names = tmp_path / "old", sorted(weights)
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for file, held in parts.items():
        torch.save({name: weights[name] for name in held}, old / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (old / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (old / "pytorch_model.bin").unlink()
    assert run_script("convert_checkpoint", "old", "new").code == 0
    assert load_file(tmp_path / "new" / "model.safetensors").keys() == weights.keys() - {"lm_head.weight"}
    assert not (tmp_path / "new" / "pytorch_model.bin.index.json").exists()
    (old / "pytorch_model-00002-of-00002.bin").unlink()
    outcome = run_script("convert_checkpoint", "old", "newer")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.file) == ("file-missing", "old/pytorch_model-00002-of-00002.bin")
    assert "pytorch_model.bin.index.json" in fault.problem


def test_an_untied_head_that_shares_memory_stays(tmp_path: Path, run_script: Run) -> None:
    base = write_micro_model(tmp_path / "llama", "llama")
    pickled(tmp_path / "old", base)
    weights = torch.load(tmp_path / "old" / "pytorch_model.bin", weights_only=True)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    torch.save(weights, tmp_path / "old" / "pytorch_model.bin")
    assert run_script("convert_checkpoint", "old", "new").code == 0
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


def test_code_is_refused_and_never_run(micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    pickled(tmp_path / "old", micro_model)
    torch.save({"weight": Touch(tmp_path / "RAN")}, tmp_path / "old" / "pytorch_model.bin")
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.file) == ("not-only-tensors", "old/pytorch_model.bin")
    assert "save_pretrained" in fault.hint
    assert not (tmp_path / "RAN").exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "key", "kind"),
    [({"state_dict": {}}, "state_dict", "dict"), ([torch.ones(1)], None, "list"), ({"n": 3}, "n", "int")],
)
def test_anything_but_tensors_by_name_is_refused(
    content: Any, key: str | None, kind: str, micro_model: Path, tmp_path: Path, run_script: Run
) -> None:
    pickled(tmp_path / "old", micro_model)
    torch.save(content, tmp_path / "old" / "pytorch_model.bin")
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.file) == ("not-only-tensors", key, "old/pytorch_model.bin")
    assert f" {kind};" in fault.problem


def test_weights_that_should_be_one_and_differ_are_refused(micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    weights = pickled(tmp_path / "old", micro_model)
    torch.save(weights | {"lm_head.weight": torch.ones(300, 64)}, tmp_path / "old" / "pytorch_model.bin")
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.file) == ("tied-weights-differ", "lm_head.weight", "old")
    assert "model.embed_tokens.weight" in fault.problem


@pytest.mark.parametrize("bytes_kept", [0, 3000])
def test_a_file_cut_short_is_refused(bytes_kept: int, micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    pickled(tmp_path / "old", micro_model)
    path = tmp_path / "old" / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:bytes_kept])
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code in ("not-readable", "not-only-tensors"), fault.file) == (True, "old/pytorch_model.bin")
    assert fault.hint


def test_nothing_is_overwritten(micro_model: Path, tmp_path: Path, run_script: Run) -> None:
    pickled(tmp_path / "old", micro_model)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("mine")
    outcome = run_script("convert_checkpoint", "old", "new")
    assert outcome.code == 2
    assert [(fault.code, fault.key, fault.file) for fault in outcome.faults] == [("already-exists", "target", "new")]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_safetensors_need_no_conversion(micro_model: Path, run_script: Run) -> None:
    outcome = run_script("convert_checkpoint", str(micro_model), "new")
    assert outcome.code == 2
    assert [(fault.code, fault.file) for fault in outcome.faults] == [("nothing-to-do", str(micro_model))]
