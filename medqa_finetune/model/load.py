"""Loads the tokenizer and the base model in the configured precision and quantization."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils.logging import disable_default_handler, disable_progress_bar, enable_propagation

from medqa_finetune.architecture.files import AGAIN
from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.compat.failures import words_of
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.cores import cores_of_others, own_cores, usable_cores
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.log import is_terminal
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.attention_kernels import expand_keys_where_needed
from medqa_finetune.model.parameters import adapted_modules, count_parameters
from medqa_finetune.model.pruned import from_pretrained, layer_sizes
from medqa_finetune.model.templates import TEMPLATE_KEY, allowed_templates, read_template
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.record.schema import LayerSizes, Parameters

log = logging.getLogger(__name__)

# `Device.name` of a CPU.
THREADS = re.compile(r"CPU, (\d+) threads")

# Progress bars are for terminals only.
if not is_terminal():
    disable_progress_bar()  # type: ignore[no-untyped-call]
# Its warnings then reach our handlers, including the run's log, instead of standard error only.
disable_default_handler()
enable_propagation()


@dataclass(frozen=True)
class Device:
    """The device of a run: torch's name, a name for display, and the compute precision."""

    type: Literal["cuda", "cpu"]
    name: str
    precision: Precision


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to train or generate, with its tokenizer and device.

    Attributes:
        size: Size according to its files; None if they do not give it.
        layers: Sizes of its layers if they differ from `config.json`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: Device
    parameters: Parameters
    size: ModelSize | None
    layers: LayerSizes | None = None


def choose_device(precision: str, processes: int = 1) -> Device:
    """Choose device and precision; `auto` is bf16 on GPUs with hardware support, fp16 on others, fp32 on CPU.

    Args:
        precision: As set.
        processes: Number of processes that compute together; a CPU's name has the threads of all.

    Raises:
        ModelError: the device does not support the precision.
    """
    if not torch.cuda.is_available():
        if precision == "fp16":
            problem, allowed = "needs a GPU, and none is visible", ("auto", "fp32", "bf16")
            raise ModelError(Fault("needs-gpu", problem, key="precision", got=precision, allowed=allowed))
        chosen = "fp32" if precision == "auto" else precision
        return Device("cpu", f"CPU, {torch.get_num_threads() * processes} threads", cast(Precision, chosen))
    # Turing (T4) emulates bf16 at a fraction of its fp16 speed, but torch counts that as supported.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and not has_bf16:
        problem, allowed = f"{torch.cuda.get_device_name()} has no bf16 in hardware", ("auto", "fp16", "fp32")
        raise ModelError(Fault("not-supported", problem, key="precision", got=precision, allowed=allowed))
    chosen = ("bf16" if has_bf16 else "fp16") if precision == "auto" else precision
    return Device("cuda", torch.cuda.get_device_name(), cast(Precision, chosen))


def set_threads(threads: int | None, begun: str | None = None, processes: int = 1) -> None:
    """Set the number of CPU threads of torch.

    Sums are added up in another order by another number of threads, so results differ by rounding: a run goes on with
    the number that it began with, and the load of the machine decides nothing by itself.

    Args:
        threads: The number; None for torch's default, or less where this process may not use as many cores.
        begun: Name of the device (`Device.name`) on which an earlier start of the run computed; None for a new one.
        processes: Number of processes that compute together and divide the threads.
    """
    usable = usable_cores()
    # torchrun gives each process one thread, where the user has set none.
    usual = torch.get_num_threads() if processes == 1 else usable
    before = THREADS.fullmatch(begun or "")
    chosen = threads or (int(before[1]) if before else min(usual, usable))
    torch.set_num_threads(max(1, chosen // processes))
    if torch.cuda.is_available() or processes > 1:
        return
    if threads is None and not before and chosen < usual:
        log.info("computes with %d threads: %d of %d cores are this run's (threads=)", chosen, usable, usual)
    if chosen > usable:
        log.warning("computes with %d threads, and may use %d cores: threads=%d is faster", chosen, usable, usable)
    others, cores = cores_of_others(), len(own_cores())
    free = max(1, min(usable, round(cores - others)))
    if chosen > free and others >= cores / 2:
        log.warning(
            "other programs keep about %.1f of %d cores busy: threads=%d may be much faster than %d",
            min(others, cores), cores, free, chosen,
        )  # fmt: skip


def load_model(
    folder: Path, method: MethodConfig, device: Device, seed: int, *, chat: bool = True, template: str | None = None
) -> LoadedModel:
    """Load tokenizer and base model, and apply the method.

    Args:
        folder: Folder of the model.
        method: Method: what is trained, and the quantization of frozen weights.
        device: Device to load onto.
        seed: Seed of the adapter's initial weights.
        chat: As in `load_tokenizer`.
        template: As in `load_tokenizer`.

    Raises:
        ModelError: a file is missing or damaged, or tokenizer, model and method do not fit together.
    """
    tokenizer = load_tokenizer(folder, template, chat=chat)
    base = load_base(folder, method, device, tokenizer)
    total, layers = count_parameters(base), layer_sizes(base)
    set_seed(seed)
    model = model_method(method).apply(base)
    size = read_size(folder)
    trainable = count_parameters(model, trainable_only=True)
    active = size.active_parameters if size is not None and size.experts else None
    parameters = Parameters(total, trainable, adapted_modules(model), active)
    _log_parameters(parameters, layers)
    if size is not None and size.experts:
        _log_experts(size, method, base)
    return LoadedModel(model, tokenizer, device, parameters, size, layers)


def _log_parameters(parameters: Parameters, layers: LayerSizes | None) -> None:
    share, adapted = parameters.trainable / parameters.total, ", ".join(parameters.adapted)
    log.info(
        "%s of %s weights are trained (%.2f %%)%s",
        f"{parameters.trainable:,}", f"{parameters.total:,}", 100 * share, adapted and f", adapters on {adapted}",
    )  # fmt: skip
    if layers is not None:
        log.info("layer by layer, not as config.json says: %s", layers)


def _log_experts(size: ModelSize, method: MethodConfig, base: PreTrainedModel) -> None:
    counts = sorted({count for count, _, _ in size.experts.values()})
    log.info(
        "a mixture of experts: each token passes %s of %s weights, those of %d of %s experts",
        f"{size.active_parameters:,}", f"{size.parameters:,}", size.experts_per_token, " or ".join(map(str, counts)),
    )  # fmt: skip
    if method.quantization != "none":
        held = str(base.dtype).removeprefix("torch.")
        log.warning(
            "bitsandbytes quantizes linear layers alone: %s weights of experts stay in %s",
            f"{size.expert_weights:,}", held,
        )  # fmt: skip


def load_tokenizer(folder: Path, template: str | None = None, *, chat: bool = True) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder.

    Args:
        folder: Folder with the tokenizer's files.
        chat: Whether questions will be answered, which needs a chat template.
        template: `model.chat_template`, for a model without one; None for the model's own.

    Raises:
        ModelError: it cannot be loaded, or lacks what chat needs.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises its own kinds, plain Exception among them
        problem = f"the tokenizer cannot be loaded ({words_of(error)})"
        raise ModelError(Fault("not-loadable", problem, file=str(folder))) from None
    if template is not None:
        tokenizer.chat_template = read_template(template)
    if chat and not tokenizer.chat_template:
        raise ModelError(
            Fault(
                "template-missing",
                "the tokenizer has no chat template",
                key=TEMPLATE_KEY,
                got=template,
                allowed=allowed_templates(),
                hint="Use an instruction-tuned (chat) model, or give model.chat_template.",
                file=str(folder),
            )
        )
    return _with_padding(folder, tokenizer)


def _with_padding(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Use the end token for padding if a tokenizer has no padding token.

    Padding may be the end token: labels and attention masks go by places, not by ids.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                Fault(
                    "pad-token",
                    "is not set, and neither is eos_token",
                    key="pad_token",
                    got=None,
                    file=str(folder / "tokenizer_config.json"),
                    hint="Set eos_token in tokenizer_config.json.",
                )
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(
    folder: Path, method: MethodConfig, device: Device, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Load the base model onto the device, with frozen weights quantized according to `method.quantization`.

    Trained base weights are kept in fp32, since half precision loses small updates.

    Raises:
        ModelError: files are damaged, weights are missing or have another shape, or the embedding has fewer rows than
            the tokenizer has tokens.
    """
    dtype = dtype_of(model_method(method).base_precision(device.precision))
    options: dict[str, Any] = {}
    if method.quantization != "none":
        options["quantization_config"] = quantization_config(method, device.precision)
    try:
        model, report = from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            device_map={"": torch.cuda.current_device() if device.type == "cuda" else "cpu"},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except ModelError:
        raise
    except Exception as error:  # safetensors and bitsandbytes raise kinds of their own
        problem = f"the model cannot be loaded ({words_of(error)})"
        raise ModelError(Fault("not-loadable", problem, file=str(folder))) from None
    # transformers fills missing weights with random ones, and does not check shapes when it quantizes.
    wrong = sorted(report["missing_keys"]) + _misshapen_layers(model)
    if wrong:
        problem = f"is missing, or of another shape than config.json says ({len(wrong)} such weights in all)"
        raise ModelError(Fault("weights-mismatch", problem, key=wrong[0], file=str(folder), hint=AGAIN))
    check_vocabulary(folder, model, tokenizer)
    expand_keys_where_needed(model)
    return cast(PreTrainedModel, model)


def check_vocabulary(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the model's embedding has a row for every token.

    Raises:
        ModelError: it has fewer rows.
    """
    rows = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
    if rows < len(tokenizer):
        problem = f"the tokenizer has {len(tokenizer)} tokens, and the model's embedding {rows} rows"
        hint = "They do not belong together: fetch both from the same place."
        raise ModelError(Fault("vocabulary-mismatch", problem, file=str(folder), hint=hint))


def _misshapen_layers(model: torch.nn.Module) -> list[str]:
    """Return the linear layers whose number of weights differs from the configuration."""
    layers = ((name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear))
    return [
        name
        for name, part in layers
        if count_parameters(part) != part.out_features * (part.in_features + (part.bias is not None))
    ]


def quantization_config(method: MethodConfig, precision: Precision) -> BitsAndBytesConfig:
    """Return the bitsandbytes settings of `method.quantization` (not `none`) for a run of this precision."""
    if method.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    chosen = precision if method.compute_dtype == AUTO else cast(Precision, method.compute_dtype)
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quantization,
        bnb_4bit_use_double_quant=method.double_quantization,
        bnb_4bit_compute_dtype=dtype_of(chosen),
    )
