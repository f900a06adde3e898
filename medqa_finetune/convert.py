"""Command-line entry point for conversion: a model with pickled weights becomes one with safetensors.

Tensors alone are read (torch.load with weights_only=True); a file that holds anything else can run code when it is
read, and is refused. Values, types and shapes stay as they are, those of a pruned model too. The old folder is not
changed.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.architecture.files import INDEX, SINGLE, read_config, read_tensors
from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, from_flags, option, parse_options
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, ModelError, brief
from medqa_finetune.languages.translate import say
from medqa_finetune.record.files import replace_folder

if TYPE_CHECKING:
    import torch

PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
# What else belongs to a model: settings, tokenizer, chat template. Code does not.
AGAIN = "Download it again."
COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.tiktoken")


@dataclass(frozen=True)
class ConvertOptions(Options):
    """Command-line options."""

    source: str = option(
        "", f"folder with {PICKLE} or its shards, config.json and tokenizer", value="DIR", positional=True
    )
    target: str = option("", "folder to make", value="DIR", positional=True)

    def conflicts(self) -> Iterator[Fault]:
        """Yield the folders that are not given."""
        for key in ("source", "target"):
            if not getattr(self, key):
                yield Fault("missing-key", "is missing", key=key, hint=f"Give {key}=DIR.")


USAGE = f"""\
usage: medqa-convert source=DIR target=DIR

Turns a model with pickled weights into one with safetensors, in a new folder; nothing but tensors is read. Also as
python -m medqa_finetune.convert.

  medqa-convert source=models/old target=models/new

options:
{describe(ConvertOptions)}"""


def main() -> NoReturn:
    """Run the command `convert`, and end the process."""
    run_command(convert)


def convert(arguments: list[str]) -> int:
    """Convert the model that `arguments` name, and print the result; return the exit code.

    Raises:
        ConfigError: an option is unknown, or the target exists.
        ModelError: the weights are missing, damaged, or hold more than tensors.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    options = parse_options(ConvertOptions, from_flags(ConvertOptions, arguments))
    source, target = Path(options.source), Path(options.target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        hint = "Give a new folder; nothing is overwritten."
        raise ConfigError(Fault("already-exists", "exists already", key="target", file=str(target), hint=hint))
    read_config(source)
    files = pickled_files(source)
    weights = {name: tensor for path in files for name, tensor in read_pickle(path).items()}
    weights = without_copies(source, weights)
    replace_folder(target, lambda folder: write(source, folder, weights))
    numbers = sum(tensor.numbers for tensor in read_tensors(target).values())
    counts = {"tensors": len(weights), "numbers": f"{numbers:,}"}
    print(say("{path} is complete: {tensors} tensors, {numbers} weights.", path=target, **counts))
    print(say("Next: {command}", command=f"python -m medqa_finetune.train model=local model.path={target} method=lora"))
    return EXIT_DONE


def pickled_files(folder: Path) -> list[Path]:
    """Return the pickled weight files of a model: the one, or the shards that its index names.

    Raises:
        ModelError: one is missing, or there are safetensors already.
    """
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        problem = "has safetensors already; there is nothing to convert"
        raise ModelError(Fault("nothing-to-do", problem, file=str(folder)))
    index = folder / PICKLE_INDEX
    names = [PICKLE]
    if index.is_file():
        try:
            names = sorted({Path(str(name)).name for name in json.loads(index.read_bytes())["weight_map"].values()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(Fault("not-an-index", "not an index of shards", file=str(index), hint=AGAIN)) from None
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        named = f" (named by {PICKLE_INDEX})" if index.is_file() else ""
        problem = f"the file{named} is missing; there is nothing to convert without it"
        raise ModelError(Fault("file-missing", problem, file=str(folder / lost[0])))
    return [folder / name for name in names]


def read_pickle(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a pickled file, mapped from disk where its format allows.

    Raises:
        ModelError: it holds anything but tensors by name, or is damaged.
    """
    import torch

    try:
        # Files from before torch 1.6 are no zip archives, and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        reason = (str(error).strip().splitlines() or ["it ends too early"])[0][:200]
        raise ModelError(Fault("not-readable", f"cannot be read: {reason}", file=str(path), hint=AGAIN)) from None
    except Exception:  # of pickle's own kinds: what weights_only does not take
        raise ModelError(Fault(
            "not-only-tensors",
            "holds more than tensors, or is damaged; what can run code when it is read is refused", file=str(path),
            hint="Where the model was made, save it with save_pretrained, or its state_dict() alone.",
        )) from None  # fmt: skip
    for name, value in content.items() if isinstance(content, dict) else [("", content)]:
        if not (isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided):
            problem = f"holds a {type(value).__name__}; it must hold tensors by name, and nothing else"
            key = brief(name) if name != "" else None
            raise ModelError(Fault("not-only-tensors", problem, key=key, file=str(path)))
    return dict(content)


def without_copies(folder: Path, weights: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return the weights with each stored once where `config.json` ties some together, and memory of its own for each.

    Raises:
        ModelError: weights that are tied differ.
    """
    import torch

    for tied, kept in tied_names(folder):
        if tied in weights and kept in weights:
            if not torch.equal(weights[tied], weights[kept]):
                problem = f"config.json ties {tied} to {kept}, and their values differ"
                raise ModelError(Fault("tied-weights-differ", problem, key=tied, file=str(folder)))
            del weights[tied]
    seen: set[int] = set()
    for name, weight in weights.items():
        start = weight.untyped_storage().data_ptr()
        # safetensors writes no tensor that is a part of another's memory.
        weights[name] = weight.clone() if start in seen else weight.contiguous()
        seen.add(start)
    return weights


def tied_names(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of weights that are those of another one, and of that other one."""
    from medqa_finetune.model.pruned import build_skeleton

    model: Any = build_skeleton(folder)
    yield from model.all_tied_weights_keys.items()


def write(source: Path, folder: Path, weights: "dict[str, torch.Tensor]") -> None:
    """Write weights as safetensors, and copy what else belongs to the model."""
    from huggingface_hub import save_torch_state_dict

    for pattern in COPIED:
        for path in source.glob(pattern):
            if path.is_file() and path.name != PICKLE_INDEX:
                shutil.copyfile(path, folder / path.name)
    save_torch_state_dict(weights, folder, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
