"""Writes the files of one variant; runs in its own process, since peak memory is per process."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.config.chat_form import PLAIN_FORM, ChatForm
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.record.environment import describe_environment
from medqa_finetune.record.files import TEMPORARY_PREFIX
from medqa_finetune.record.schema import Environment

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medqa_finetune.model.load import Device

# Model files to copy; the tokenizer is saved again, and code is never copied.
# Room for any template: an encoder is asked for its end token alone.
ANY_LENGTH = 2**20
MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


@dataclasses.dataclass(frozen=True)
class WriteRequest:
    """Which variant to write, and from what.

    Attributes:
        variant: One of `KINDS`.
        folder: An empty folder for the files.
        base: Folder of the base model.
        trained: Folder of the trained weights.
        method: The run's method.
        quantization: Settings of the quantized variants.
        precision: The run's compute precision.
        dtype: Of weights that are not quantized: `bf16`, `fp16` or `fp32`.
        merged: Folder of the merged variant; None if there is none.
        template: The run's `model.chat_template`.
        chat: Whether the run generates predictions; running text needs no chat template.
        form: In which form the chat template renders dialogues, as in training.
    """

    variant: str
    folder: Path
    base: Path
    trained: Path
    method: MethodConfig
    quantization: MethodConfig
    precision: str
    dtype: Precision
    merged: Path | None = None
    template: str | None = None
    chat: bool = True
    form: ChatForm = PLAIN_FORM

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer saved with the trained weights, or of the base's."""
        return self.trained if self.trained.is_dir() else self.base


def build(making: WriteRequest) -> Environment:
    """Write the variant's files, and return the environment of this process.

    Raises:
        ModelError: the base or the trained weights are damaged or do not fit.
    """
    from medqa_finetune.model.load import choose_device

    device = choose_device(making.precision)
    BUILDERS[making.variant](making, device)
    return describe_environment(device.name, device.precision)


def _base(making: WriteRequest, device: "Device") -> None:
    from medqa_finetune.model.load import load_tokenizer

    for pattern in MODEL_FILES:
        for path in making.base.glob(pattern):
            shutil.copy(path, making.folder)
    tokenizer = load_tokenizer(making.tokenizer, making.template, chat=making.chat)
    _save_tokenizer(tokenizer, making.folder, making)


def _quantized(making: WriteRequest, device: "Device") -> None:
    _quantize(making.base, making, device)


def _lora(making: WriteRequest, device: "Device") -> None:
    shutil.copytree(making.trained, making.folder, dirs_exist_ok=True)


def _merged(making: WriteRequest, device: "Device") -> None:
    _merge(making.folder, making, device)


def _lora_quantized(making: WriteRequest, device: "Device") -> None:
    if making.merged is not None:
        _quantize(making.merged, making, device)
        return
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=making.folder.parent) as name:
        _merge(Path(name), making, device)
        _quantize(Path(name), making, device)


BUILDERS: dict[str, Callable[[WriteRequest, "Device"], None]] = {
    "base": _base,
    "quantized": _quantized,
    "lora": _lora,
    "lora_quantized": _lora_quantized,
    "merged": _merged,
}


def _quantize(source: Path, making: WriteRequest, device: "Device") -> None:
    from medqa_finetune.model.load import load_base, load_tokenizer

    tokenizer = load_tokenizer(making.tokenizer, making.template, chat=making.chat)
    model = load_base(source, making.quantization, device, tokenizer)
    _save(model, tokenizer, making.folder, making)


def _merge(target: Path, making: WriteRequest, device: "Device") -> None:
    from medqa_finetune.model.load import load_base, load_tokenizer

    tokenizer = load_tokenizer(making.tokenizer, making.template, chat=making.chat)
    base = load_base(making.base, making.method, device, tokenizer)
    _save(model_method(making.method).merge(base, making.trained), tokenizer, target, making)


def _save(model: "PreTrainedModel", tokenizer: Any, folder: Path, making: WriteRequest) -> None:
    """Save a model with floating-point weights in `making.dtype`; quantized weights are unchanged.

    Its `generate` ends answers where the evaluation does.
    """
    import torch

    from medqa_finetune.data.encode import Encoder
    from medqa_finetune.model.stop_tokens import end_answers

    if making.chat:
        end_answers(model, tokenizer, Encoder(tokenizer, ANY_LENGTH, making.form).end_ids[-1])

    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype in (torch.float32, torch.bfloat16, torch.float16):
            tensor.data = tensor.data.to(dtype_of(making.dtype))
    model.save_pretrained(folder)
    _save_tokenizer(tokenizer, folder, making)


def _save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path, making: WriteRequest) -> None:
    """Save a tokenizer whose chat template asks as the run was trained, unless it is told otherwise."""
    if making.chat:
        from medqa_finetune.data.template import ChatTemplate

        tokenizer.chat_template = ChatTemplate(tokenizer, making.form).as_trained
    tokenizer.save_pretrained(folder)
