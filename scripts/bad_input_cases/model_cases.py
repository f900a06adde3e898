"""Bad inputs 36 to 40: models, tokenizers and adapters."""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from scripts.bad_input_cases.case import LORA, Case, Expected
from scripts.command_line import ROOT, python

TINY = ROOT / "medqa_finetune" / "model" / "tiny"
OF_FOLDER = (*LORA, "model=local", "model.path=base")
# A named model keeps its run's name, wherever its weights are.
OF_NAMED = (*LORA, "model=qwen2.5-0.5b", "model.path=base")
INDEX = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}
CODE = 'from pathlib import Path\n\nPath("THE_CODE_RAN").touch()\n'
REMOTE = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"}}


def model(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that writes the tiny model into the folder `base` and applies a change."""

    def write(folder: Path) -> None:
        shutil.copytree(TINY, folder / "base")
        change(folder / "base")

    return write


def edited(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a function that edits one JSON file of a folder."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        edit(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return change


def pickled_only(base: Path) -> None:
    """Rename the weights to a pickle's file name."""
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def remote_code(base: Path) -> None:
    """Make the configuration refer to code in the same folder."""
    edited("config.json", lambda config: config.update(REMOTE))(base)
    (base / "mine.py").write_text(CODE, encoding="utf-8")


def sharded(base: Path) -> None:
    """Write an index of two shards, of which one exists."""
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    (base / "model.safetensors.index.json").write_text(json.dumps(INDEX), encoding="utf-8")


def cut_short(base: Path) -> None:
    """Truncate the weights, like an interrupted download."""
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1_000_000])


def one_token_more(tokenizer: dict[str, Any]) -> None:
    """Add a token without a row in the model's embedding."""
    extra = {"id": 3504, "content": "<extra>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer["added_tokens"].append(extra | {"normalized": False})


@cache
def trained() -> Path:
    """Train once, and return a folder with the run, which has its weights and was stopped before evaluation."""
    folder = Path(tempfile.mkdtemp(prefix="bad-inputs-"))
    shutil.copytree(TINY, folder / "base")
    done = python("-m", "medqa_finetune.train", *OF_NAMED, cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in folder.rglob("record.json"))
    edited("record.json", stopped_before_answering)(run)
    for path in run.iterdir():
        if path.name not in ("record.json", "config.yaml", "adapter", "log.txt"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def stopped_before_answering(record: dict[str, Any]) -> None:
    record["files"] = {name: stamp for name, stamp in record["files"].items() if name.startswith("adapter/")}
    record |= {"status": "interrupted", "evaluation": None, "finished": None}


def trained_then(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that writes the trained run and the base model, and applies a change to their folder."""

    def write(folder: Path) -> None:
        shutil.copytree(trained(), folder, dirs_exist_ok=True)
        change(folder)

    return write


def another_base(folder: Path) -> None:
    edited("config.json", lambda config: config.update(rms_norm_eps=1e-5))(folder / "base")


def adapter_with(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return a function that replaces every matrix of the run's adapter."""

    def replace(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        (path,) = folder.rglob("adapter_model.safetensors")
        save_file({name: change(matrix).copy() for name, matrix in load_file(path).items()}, path)

    return replace


def as_run(**changes: Any) -> Callable[[Path], None]:
    """Return a function that moves the trained run to the folder `run`, with changes to its record."""

    def rename(folder: Path) -> None:
        (path,) = (path.parent for path in folder.rglob("record.json"))
        path.rename(folder / "run")
        edited("record.json", lambda record: record.update(changes))(folder / "run")

    return rename


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that applies several changes in order."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


EXPORT = ("run=run",)


def pruned_unevenly(base: Path) -> None:
    """Cut one matrix of a layer without the matrices that it is multiplied with."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(base / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(weights | {name: weights[name][:100].copy()}, base / "model.safetensors", metadata={"format": "pt"})


NO_ENDS = edited("tokenizer_config.json", lambda config: config.update(pad_token=None, eos_token=None))
NO_PAD_TOKEN = Expected(
    "pad-token", "pad_token", None, names=("eos_token",), hint="Set eos_token",
    file="base/tokenizer_config.json",
)  # fmt: skip
PICKLED = Expected(
    "pickled-weights", names=("pytorch_model.bin", "can run code"),
    hint="`python -m medqa_finetune.convert base NEW_FOLDER`", file="base",
)  # fmt: skip
CUT_SHORT = Expected(
    "damaged-file", names=("1,000,000 bytes", "4,896,272"), hint="Download it again", file="base/model.safetensors"
)


def changed_adapter(nbytes: str) -> Expected:
    """Fault of a trained run whose adapter has changed since training."""
    names = (f"adapter/adapter_model.safetensors has {nbytes} bytes instead of 941,048", "another model's weights")
    return Expected("changed-file", names=names, hint="overwrite=true", file="train.max_steps=1")


CASES = [
    Case(
        36, "export of a folder that is no run", ("run=.",),
        (Expected("not-a-run", "run", ".", names=("record.json",), hint="folder of a finished run"),), program="export",
    ),
    Case(
        36, "export of a run that was stopped", EXPORT,
        (Expected("run-not-done", "run", "run", names=("interrupted",), hint="command that started it"),),
        trained_then(as_run()), program="export", slow=True,
    ),
    Case(
        37, "export when the base model was replaced", EXPORT,
        (Expected("other-base-model", "run", "run", names=("base", "sha256 "), hint="export.base=DIR"),),
        trained_then(both(as_run(status="done"), another_base)), program="export", slow=True,
    ),
    Case(
        38, "export of a damaged adapter", EXPORT,
        (
            Expected(
                "changed-file", "run", "run", names=("adapter/adapter_model.safetensors has", "since the run was done"),
                hint="overwrite=true",
            ),
        ),
        trained_then(both(as_run(status="done"), adapter_with(lambda matrix: -matrix))), program="export", slow=True,
    ),
    Case(
        36, "model folder missing", (*LORA, "model=local", "model.path=base"),
        (Expected("model-missing", "model.path", "base", hint="Give a folder with config.json"),),
    ),
    Case(
        36, "model not downloaded, no network", (*LORA, "model=qwen2.5-3b"),
        (
            Expected(
                "model-missing", "model.path", "models/Qwen2.5-3B-Instruct", names=("Qwen/Qwen2.5-3B-Instruct",),
                hint="`medqa-download model=qwen2.5-3b`",
            ),
        ),
    ),
    Case(
        37, "base model replaced after training", OF_NAMED,
        (
            Expected(
                "another-run", names=("model.fingerprint: ", " -> "), hint="overwrite=true", file="train.max_steps=1"
            ),
        ),
        trained_then(another_base), slow=True,
    ),
    Case(
        37, "adapter of another base model", OF_NAMED, (changed_adapter("613,304"),),
        trained_then(adapter_with(lambda matrix: matrix[:, :64])), slow=True,
    ),
    Case(
        37, "a pruned matrix that does not fit the others", OF_FOLDER,
        (
            Expected(
                "weights-mismatch", "model.layers.1.mlp", names=("gate_proj and up_proj", "576 and 100"),
                hint="do not belong together", file="base",
            ),
        ),
        model(pruned_unevenly), prepared=True,
    ),
    Case(
        38, "adapter of another rank", OF_NAMED, (changed_adapter("474,000"),),
        trained_then(adapter_with(lambda matrix: matrix[:8] if matrix.shape[0] == 16 else matrix[:, :8])), slow=True,
    ),
    Case(
        39, "tokenizer without chat template", OF_FOLDER,
        (
            Expected(
                "template-missing", "model.chat_template", None, allowed=("instruct",), hint="model.chat_template",
                file="base",
            ),
        ),
        model(lambda base: (base / "chat_template.jinja").unlink()), prepared=True,
    ),
    Case(39, "neither pad token nor end token", OF_FOLDER, (NO_PAD_TOKEN,), model(NO_ENDS), prepared=True),
    Case(
        39, "more tokens than the embedding has rows", OF_FOLDER,
        (Expected("vocabulary-mismatch", names=("3505 tokens", "3504 rows"), hint="from the same place", file="base"),),
        model(edited("tokenizer.json", one_token_more)), prepared=True,
    ),
    Case(
        39, "a chat template that is not there", (*OF_FOLDER, "model.chat_template=chat"),
        (Expected("file-missing", "model.chat_template", "chat", allowed=("instruct",)),), model(lambda base: None),
    ),
    Case(40, "pickled weights", OF_FOLDER, (PICKLED,), model(pickled_only)),
    Case(
        40, "remote code", OF_FOLDER,
        (
            Expected(
                "unknown-architecture", "model_type", "mine", names=("never run",), hint="transformers knows",
                file="base/config.json",
            ),
        ),
        model(remote_code), prepared=True,
    ),
    Case(
        40, "index that names a missing shard", OF_FOLDER,
        (
            Expected(
                "file-missing", "weight_map", "model-00002-of-00002.safetensors", names=("1 of 2",),
                hint="Download it again", file="base/model.safetensors.index.json",
            ),
        ),
        model(sharded),
    ),
    Case(40, "weights cut short", OF_FOLDER, (CUT_SHORT,), model(cut_short)),
]  # fmt: skip
