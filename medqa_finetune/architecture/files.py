"""Reads a model's `config.json` and safetensors headers, without loading a weight."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.precision import Precision

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Any one of these defines a tokenizer. Without one, transformers silently makes an empty tokenizer.
VOCABULARIES = ("tokenizer.json", "*.model", "*.spm", "*.tiktoken", "tekken.json", "vocab.txt")
VOCABULARY_AND_MERGES = ("vocab.json", "merges.txt")
# The limit of safetensors itself, so that a damaged length does not allocate gigabytes.
LONGEST_HEADER = 100_000_000
# safetensors' names of the precisions that models are stored in.
STORED: dict[str, Precision] = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
# First eight bytes of a Git LFS pointer, which replaces a large file.
LFS_POINTER = b"version "
AGAIN = "Download the model again."
FILE_AGAIN = "Download it again."


@dataclass(frozen=True)
class Tensor:
    """Type (`BF16`, `F32`, …) and shape of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model's `config.json`.

    Raises:
        ModelError: it is missing, or not a JSON object.
    """
    return read_object(folder / "config.json", "Give a folder that save_pretrained wrote, or download the model again.")


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: The file.
        hint: Remedy in the fault.

    Raises:
        ModelError: it is missing, cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(Fault("file-missing", "is missing", file=str(path), hint=hint)) from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise ModelError(Fault("not-readable", problem, file=str(path), hint=hint)) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(Fault("not-json", f"is not JSON ({error})", file=str(path), hint=hint)) from None
    if not isinstance(content, dict):
        raise ModelError(Fault("wrong-type", "must be a JSON object", got=content, file=str(path), hint=hint))
    return content


def check_tokenizer_files(folder: Path) -> None:
    """Check that a model's folder has the files of a tokenizer.

    Raises:
        ModelError: there is no vocabulary.
    """
    whole = any(path.stat().st_size for pattern in VOCABULARIES for path in folder.glob(pattern))
    if not whole and not all((folder / name).is_file() for name in VOCABULARY_AND_MERGES):
        hint = "Add its tokenizer.json, or vocab.json with merges.txt."
        raise ModelError(Fault("tokenizer-missing", "there is no tokenizer", file=str(folder), hint=hint))


def weight_files(folder: Path) -> list[Path]:
    """Return a model's weight files: a single one, or the shards that its index names.

    Raises:
        ModelError: one is missing, or all are pickled, which can run code.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            paths = [folder / shard for shard in shards]
            lost = [path.name for path in paths if not path.is_file()]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(_damaged(index, "is not a safetensors index", AGAIN)) from None
        if lost:
            problem = f"this file is missing ({len(lost)} of {len(shards)})"
            raise ModelError(
                Fault("file-missing", problem, key="weight_map", got=lost[0], file=str(index), hint=FILE_AGAIN)
            )
        return paths
    if not (folder / SINGLE).is_file():
        others = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        if others:
            raise ModelError(
                Fault(
                    "pickled-weights",
                    f"{SINGLE} is missing, and pickled weights ({', '.join(others[:3])}) can run code and are not read",
                    file=str(folder),
                    hint=f"`python -m medqa_finetune.convert {folder} NEW_FOLDER` makes safetensors of them.",
                )
            )
        problem = "is missing, and only safetensors weights are loaded"
        raise ModelError(Fault("file-missing", problem, file=str(folder / SINGLE)))
    return [folder / SINGLE]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor in a model's weight files, by name.

    Raises:
        ModelError: a file is missing, truncated or not in the safetensors format.
    """
    return {name: tensor for path in weight_files(folder) for name, tensor in read_header(path).items()}


def stored_precision(folder: Path) -> Precision:
    """Return the precision of most of a model's weights on disk: `bf16`, `fp16` or `fp32`.

    Raises:
        ModelError: as `read_tensors`.
    """
    numbers = dict.fromkeys(STORED, 0)
    for tensor in read_tensors(folder).values():
        if tensor.dtype in numbers:
            numbers[tensor.dtype] += tensor.numbers
    return STORED[max(numbers, key=lambda dtype: numbers[dtype])]


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one safetensors file, by name.

    The format: eight bytes with the length of the header, the header (JSON), and the tensors' bytes, without gaps
    (https://github.com/huggingface/safetensors#format). So an incomplete download is found without reading it all.

    Raises:
        ModelError: the file is truncated, longer than its header says, or not in the safetensors format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(min(length, LONGEST_HEADER))
    except OSError as error:
        raise ModelError(Fault("not-readable", f"cannot be read ({error.strerror})", file=str(path))) from None
    if start == LFS_POINTER:
        hint = "Run `git lfs pull` in its folder."
        raise ModelError(Fault("lfs-pointer", "is a Git LFS pointer, not the weights", file=str(path), hint=hint))
    if len(start) < 8 or length > LONGEST_HEADER:
        raise ModelError(_damaged(path, f"is not a safetensors file ({size:,} bytes)"))
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        tensors = {
            name: Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in entries.items()
        }
        expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, OverflowError, KeyError, IndexError, AttributeError, TypeError, RecursionError):
        is_cut = len(header) < length
        cut = f"is cut short within its header of {length:,} bytes" if is_cut else "its header is damaged"
        raise ModelError(_damaged(path, cut)) from None
    if size != expected:
        raise ModelError(_damaged(path, f"has {size:,} bytes, and by its header it must have {expected:,}"))
    return tensors


def _damaged(path: Path, problem: str, hint: str = FILE_AGAIN) -> Fault:
    return Fault("damaged-file", problem, file=str(path), hint=hint)
