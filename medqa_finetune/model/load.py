"""Load the tokenizer and the base model, in the precision and quantization asked for."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils.logging import disable_default_handler, disable_progress_bar, enable_propagation

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.model.estimate import ModelSize, read_size
from medqa_finetune.model.methods import apply_method, count_parameters
from medqa_finetune.record.schema import Parameters

# A bar per loaded file is for people who watch; in a log it is noise.
if not sys.stderr.isatty():
    disable_progress_bar()  # type: ignore[no-untyped-call]
# Its warnings go where all others go, the run's log included, instead of straight to standard error.
disable_default_handler()
enable_propagation()

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Device:
    """Where a run computes: torch's name for the device, one for people, and the precision of its products."""

    type: Literal["cuda", "cpu"]
    name: str
    precision: Precision


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to train or answer, with what belongs to it; `size` as its files give it, None if they do not."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: Device
    parameters: Parameters
    size: ModelSize | None


def choose_device(precision: str) -> Device:
    """Choose the device and precision: `auto` is bf16 on GPUs that have it in hardware, fp16 on others, fp32 on CPU.

    Raises:
        ModelError: the device at hand has no such precision.
    """
    if not torch.cuda.is_available():
        if precision == "fp16":
            raise ModelError("precision=fp16 needs a GPU, and none is visible; allowed here: auto, fp32, bf16.")
        chosen = "fp32" if precision == "auto" else precision
        return Device("cpu", f"CPU, {torch.get_num_threads()} threads", cast(Precision, chosen))
    # Turing (T4) emulates bf16 at a fraction of its fp16 speed, and torch calls that supported.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and not has_bf16:
        raise ModelError(
            f"precision=bf16: {torch.cuda.get_device_name()} has none in hardware; allowed here: auto, fp16, fp32."
        )
    chosen = ("bf16" if has_bf16 else "fp16") if precision == "auto" else precision
    return Device("cuda", torch.cuda.get_device_name(), cast(Precision, chosen))


def set_threads(threads: int | None) -> None:
    """Let torch use this many CPU threads; None leaves the number to torch."""
    if threads is not None:
        torch.set_num_threads(threads)


def load_model(folder: Path, method: MethodConfig, device: Device, seed: int, *, chat: bool = True) -> LoadedModel:
    """Load tokenizer and base model, and apply the method; `seed` decides the adapter's first weights.

    Without `chat`, the tokenizer needs no chat template.

    Raises:
        ModelError: something is missing, damaged or does not fit; says what.
    """
    tokenizer = load_tokenizer(folder, chat=chat)
    base = load_base(folder, method, device, tokenizer)
    total = count_parameters(base)
    set_seed(seed)
    model = apply_method(base, method)
    parameters = Parameters(total, count_parameters(model, trainable_only=True))
    return LoadedModel(model, tokenizer, device, parameters, read_size(folder))


def load_tokenizer(folder: Path, *, chat: bool = True) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder.

    Args:
        folder: With the tokenizer's files.
        chat: Whether questions will be answered, for which a chat template is needed, and a token to pad with that does
            not end an answer; running text needs neither.

    Raises:
        ModelError: it cannot be loaded, or does not do for chats that are asked for.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises its own kinds, plain Exception among them
        raise ModelError(f"{folder}: the tokenizer cannot be loaded ({_first_line(error)}).") from None
    if not chat:
        return cast(PreTrainedTokenizerBase, _with_padding(folder, tokenizer))
    if not tokenizer.chat_template:
        raise ModelError(f"{folder}: the tokenizer has no chat template; an instruction-tuned (chat) model is wanted.")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ModelError(
            f"{folder}: pad token {tokenizer.pad_token!r} and end token {tokenizer.eos_token!r} must be two different "
            "tokens, or the model never learns to end; set pad_token in tokenizer_config.json."
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _with_padding(folder: Path, tokenizer: Any) -> Any:
    """Let a tokenizer without a token to pad with take the end token: what is padded is masked, and never learnt."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{folder}: the tokenizer has neither pad_token nor eos_token; one of them is wanted.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(
    folder: Path, method: MethodConfig, device: Device, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Load the base model onto the device, frozen weights quantized as `method.quantization` says.

    Weights that are trained themselves are held in fp32, since half precision loses small updates.

    Raises:
        ModelError: files are damaged, weights are missing or of another shape, or the embedding has fewer rows than the
            tokenizer has tokens.
    """
    dtype = torch.float32 if method.trains == "all" else DTYPES[device.precision]
    options: dict[str, Any] = {}
    if method.quantization != "none":
        options["quantization_config"] = quantization_config(method, DTYPES[device.precision])
    try:
        model, report = cast(Any, AutoModelForCausalLM).from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            device_map={"": 0 if device.type == "cuda" else "cpu"},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except Exception as error:  # safetensors and bitsandbytes raise kinds of their own
        raise ModelError(f"{folder}: the model cannot be loaded ({_first_line(error)}).") from None
    # transformers fills what is missing with random weights, and skips the check of shapes where it quantizes.
    wrong = sorted(report["missing_keys"]) + _misshapen_layers(model)
    if wrong:
        raise ModelError(
            f"{folder}: the weights do not fit config.json: {wrong[0]} is missing or of another shape "
            f"({len(wrong)} in all). Download the model again."
        )
    check_vocabulary(folder, model, tokenizer)
    _keep_precision(model)
    return cast(PreTrainedModel, model)


def check_vocabulary(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the model has a row of its embedding for every token.

    Raises:
        ModelError: it has not.
    """
    rows = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
    if rows < len(tokenizer):
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model's embedding {rows} rows; "
            "they do not belong together."
        )


def _keep_precision(model: torch.nn.Module) -> None:
    """Stop 4-bit layers from repacking themselves at the first forward pass in evaluation mode.

    bitsandbytes 0.49 and later does so on CPUs with AVX512-BF16: for good, in bfloat16 whatever was asked for, and
    without a gradient, so that after the first validation nothing would flow back through these layers.
    """
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            setattr(part, "support_avx512bf16_for_cpu", False)  # noqa: B010 (mypy takes it for a submodule)


def _misshapen_layers(model: torch.nn.Module) -> list[str]:
    """Return the linear layers whose weights are not as many as the configuration says."""
    layers = ((name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear))
    return [
        name
        for name, part in layers
        if count_parameters(part) != part.out_features * (part.in_features + (part.bias is not None))
    ]


def quantization_config(method: MethodConfig, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return the bitsandbytes settings for `method.quantization` other than `none`."""
    if method.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quantization,
        bnb_4bit_use_double_quant=method.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
