"""What is checked: each part measures one thing by the package's own code, and says what was found."""

import contextlib
import math
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.transformers import attention_by
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.evaluation.batch_size import settle_batches
from medqa_finetune.evaluation.cuda_graph import captured
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.evaluation.fixed_shapes import FixedDecoder, check_fixed_shapes
from medqa_finetune.memory import GIB, peak_resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model import attention
from medqa_finetune.model.answering import answering_model
from medqa_finetune.model.estimate import Machine, training_memory
from medqa_finetune.model.load import LoadedModel, choose_device
from medqa_finetune.model.rates import datasheet_rate, measure_copy_rate, measure_matrix_rate
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import Interrupted, StopRequest
from scripts.fake_cuda.models import LAYERS
from scripts.gpu_checks import models
from scripts.gpu_checks.finding import Finding
from scripts.gpu_checks.models import Scale, examples, losses, random_model, settings_of, synchronize, train
from scripts.gpu_checks.prediction import roofline


def card(scale: Scale) -> Iterator[Finding]:
    """What the device is and how fast it computes and copies."""
    device = choose_device("auto")
    yield Finding("card", "device", device.name)
    yield Finding("card", "precision=auto", device.precision)
    yield Finding("card", "torch", str(torch.__version__))
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        yield Finding("card", "compute capability", capability)
        free, total = torch.cuda.mem_get_info()
        yield Finding("card", "free memory", round(free / GIB, 2), "GiB", f"{total / GIB:.2f} in all")
    yield Finding("card", "variable-length kernel", "yes" if attention.HAS_VARLEN else "no")
    rate = measure_matrix_rate(device.type, device.precision)
    sheet = datasheet_rate(device.name, device.precision)
    of = "" if sheet is None else f"{rate / sheet:.0%} of the data sheet"
    yield Finding("card", "matrix products", round(rate / 1e12, 3), "TFLOP/s", of)
    yield Finding("card", "copies", round(measure_copy_rate(device.type) / 1e9, 1), "GB/s")


def packing(scale: Scale) -> Iterator[Finding]:
    """How far packed examples come out from single ones, next to what training refuses."""
    for precision in precisions():
        loaded = random_model(scale, "lora", precision)
        base: Any = loaded.model.get_base_model()  # type: ignore[operator]
        lengths = list(attention.TRIAL_LENGTHS)
        # As training tries it: under autocast in half precision.
        with torch.autocast(loaded.device.type, dtype_of(precision), enabled=precision != "fp32"):
            alone = torch.cat([attention.trial_logits(base, [length]) for length in lengths])
            with attention_by(base, attention.NAME):
                together = attention.trial_logits(base, lengths, packed=True)
        apart = attention.distance(alone, together)
        limit = attention.TRIAL_TOLERANCE[together.dtype]
        yield Finding("packing", f"distance in {precision}", _rounded(apart), "", f"≤ {limit}", apart <= limit)
        del loaded, base
        _forget()


def overflow(scale: Scale) -> Iterator[Finding]:
    """Whether activations and gradients of one pass stay finite in half precision (fp16 ends at 65,504)."""
    for precision in precisions():
        loaded = random_model(scale, "lora", precision)
        largest = [0.0]

        def look(module: object, inputs: object, output: Any, largest: list[float] = largest) -> None:
            if isinstance(output, torch.Tensor):
                largest[0] = max(largest[0], float(output.detach().abs().max()))

        hooks = [part.register_forward_hook(look) for part in loaded.model.modules()]
        with tempfile.TemporaryDirectory() as folder:
            sets = examples(8, 16, scale.tokens(512), _vocabulary(loaded))
            train(loaded, settings_of("lora", precision, 1), Path(folder), sets)
        for hook in hooks:
            hook.remove()
        finite = math.isfinite(largest[0])
        yield Finding("overflow", f"largest activation in {precision}", _rounded(largest[0]), "", "finite", finite)
        del loaded
        _forget()


def answering_form(scale: Scale) -> Iterator[Finding]:
    """Whether a model answers after training as after a restart, and the untuned base in the same numbers."""
    precision = choose_device("auto").precision
    with tempfile.TemporaryDirectory() as folder:
        before = _logits(_answering(random_model(scale, "lora", precision, layers=8), "lora"))
        loaded = random_model(scale, "lora", precision, layers=8)
        sets = examples(32, 16, scale.tokens(256), _vocabulary(loaded))
        train(loaded, settings_of("lora", precision, 3), Path(folder), sets)
        behind = _logits(_answering(loaded, "lora"))
        restarted = random_model(scale, "lora", precision, layers=8)
        model_method(models.METHODS["lora"]).restore(restarted.model, RunDir(Path(folder)).adapter_path)
        after = _logits(_answering(restarted, "lora"))
    same = before.dtype == behind.dtype == after.dtype
    kinds = ", ".join(str(each.dtype).removeprefix("torch.") for each in (before, behind, after))
    yield Finding("answering-form", "logits of base, behind training, restarted", kinds, "", "one kind", same)
    apart = float((behind.float() - after.float()).abs().max())
    yield Finding("answering-form", "behind training and restarted differ by", _rounded(apart), "", "0", apart == 0)


def equality(scale: Scale) -> Iterator[Finding]:
    """How far a short training in half precision comes out from one in fp32."""
    precision = next(each for each in precisions() if each != "fp32")
    curves = {}
    for each in ("fp32", precision):
        loaded = random_model(scale, "lora", each, layers=4)
        sets = examples(64, 16, scale.tokens(256), _vocabulary(loaded))
        with tempfile.TemporaryDirectory() as folder:
            train(loaded, settings_of("lora", each, 20, learning_rate=1e-3), Path(folder), sets)
            curves[each] = losses(Path(folder))
        del loaded
        _forget()
    apart = max(abs(one - other) / one for one, other in zip(*curves.values(), strict=True))
    found = f"losses of 20 steps in {precision} and fp32 differ by"
    yield Finding("equality", found, _rounded(apart), "", "≤ 0.02", apart <= 0.02)


def resume(scale: Scale) -> Iterator[Finding]:
    """Whether a training that was stopped and resumed ends with the weights of one that was not."""
    precision, ends = choose_device("auto").precision, []
    for stopped in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            for start in range(1 + stopped):
                loaded = random_model(scale, "lora", precision, layers=4)
                sets = examples(64, 16, scale.tokens(256), _vocabulary(loaded))
                config = settings_of("lora", precision, 6, checkpoint_steps=2)
                if stopped and start == 0:
                    _stop_early(loaded, config, Path(folder), sets)
                else:
                    train(loaded, config, Path(folder), sets)
            weights = [each.detach().float().cpu() for each in loaded.model.parameters() if each.requires_grad]
            ends.append(torch.cat([each.flatten() for each in weights]))
            _forget()
    apart = float((ends[0] - ends[1]).abs().max())
    # Atomic additions on a GPU may round in another order; more than that is an error.
    yield Finding(
        "resume", "weights of six steps, and of one and five, differ by", _rounded(apart), "", "≤ 1e-3", apart <= 1e-3
    )


def _stop_early(loaded: LoadedModel, config: Any, folder: Path, sets: Any) -> None:
    """Train for a step, and stop as a signal would ask to."""
    stop = StopRequest()
    stop.number = signal.SIGTERM
    with contextlib.suppress(Interrupted):
        train(loaded, config, folder, sets, stop)


def memory(scale: Scale) -> Iterator[Finding]:
    """Peak memory of a step next to the estimate."""
    precision = choose_device("auto").precision
    for method in _methods("lora", "qlora"):
        for micro_batch, length, again in ((2, 4096, True), (1, 512, False)):
            loaded = random_model(scale, method, precision)
            held = scale.tokens(length)
            sizes = {"batch_size": micro_batch, "micro_batch": micro_batch, "max_length": held}
            config = settings_of(method, precision, 3, gradient_checkpointing=again, **sizes)
            sets = examples(3 * micro_batch, held, held, _vocabulary(loaded))
            with tempfile.TemporaryDirectory() as folder:
                record = train(loaded, config, Path(folder), sets)
            what = f"{method}, {micro_batch} × {held} tokens{', checkpointed' if again else ''}"
            cuda = loaded.device.type == "cuda"
            peak = record.peak_vram_bytes if cuda else peak_resident_bytes()
            machine = Machine("cuda" if cuda else "cpu", loaded.device.name, 0, loaded.device.precision)
            if loaded.size is not None and peak is not None and cuda:
                guess = training_memory(loaded.size, config, machine)
                told = (guess.total - guess.context) / GIB
                close = abs(peak / GIB / told - 1) <= 0.15
                yield Finding("memory", what, round(peak / GIB, 2), "GiB", f"{told:.2f} ± 15 %", close)
            elif peak is not None:
                yield Finding("memory", f"{what} (whole process)", round(peak / GIB, 2), "GiB")
            del loaded
            _forget()


def speed(scale: Scale) -> Iterator[Finding]:
    """Tokens per second and share of the matrix rate, by method and setting."""
    precision = choose_device("auto").precision
    for method in _methods("lora", "qlora", "full"):
        layers = LAYERS_OF_FULL if method == "full" else LAYERS
        for again in (False, True):
            for kernels in _kernels():
                loaded = random_model(scale, method, precision, layers=layers)
                length = scale.tokens(512)
                config = settings_of(
                    method, precision, 6, max_length=length, gradient_checkpointing=again, kernels=kernels
                )
                sets = examples(48, length // 4, length, _vocabulary(loaded))
                with tempfile.TemporaryDirectory() as folder:
                    record = train(loaded, config, Path(folder), sets)
                parts = [method, f"{loaded.model.config.num_hidden_layers} layers", kernels]
                what = ", ".join([*parts, *(["checkpointed"] if again else [])])
                share = record.model_flops_utilization
                shown = "" if share is None else f"{share:.0%} of the matrix rate"
                yield Finding("speed", what, round(record.tokens_per_second or 0.0), "tokens/s", shown)
                del loaded
                _forget()


# Weights, gradients and averages of all 36 layers take 50 GB, and their checkpoint as much on the disk.
LAYERS_OF_FULL = 8
# Answers shorter than so many seconds are generated again, so many times at most, and the median is shown.
ENOUGH_SECONDS, MOST_REPEATS = 1.0, 5


def answering(scale: Scale) -> Iterator[Finding]:
    """Rows, tokens per second and milliseconds per token of answering."""
    precision = choose_device("auto").precision
    for method in _methods("lora", "qlora"):
        loaded = random_model(scale, method, precision)
        model = _answering(loaded, method)
        settled = settle_batches(EvaluateConfig(batch_tokens="auto"), model, loaded.size)
        new = scale.tokens(64)
        length = scale.tokens(256)
        rows = max(1, min(settled.batch_size, settled.batch_tokens // (length + new), 8 if scale.small else 256))
        prompts = [[5] * length for _ in range(rows)]
        ending = Ending((), int(loaded.tokenizer.pad_token_id), new)
        # The first call of a kernel takes longer, and kernels depend on the number of rows.
        decode_greedily(model, prompts, Ending((), int(loaded.tokenizer.pad_token_id), 2))
        what = f"{method}, {rows} rows of {length} tokens, {new} new ones"
        yield _decoding(what, partial(decode_greedily, model), prompts, ending)
        yield from _graphs(what, model, prompts, ending)
        yield Finding("answering", f"{method}, evaluate.batch_tokens=auto", int(settled.batch_tokens), "tokens")
        del loaded, model
        _forget()


def _decoding(what: str, decode: Callable[..., list[list[int]]], prompts: list[list[int]], ending: Ending) -> Finding:
    times: list[float] = []
    # Short work is repeated: a single time of it is noise.
    while not times or (len(times) < MOST_REPEATS and sum(times) < ENOUGH_SECONDS):
        synchronize()
        started = time.perf_counter()
        made = decode(prompts, ending)
        synchronize()
        times.append(time.perf_counter() - started)
    seconds = statistics.median(times)
    each = f"{1000 * seconds / ending.max_new_tokens:.1f} ms a token"
    return Finding("answering", what, round(sum(map(len, made)) / seconds), "tokens/s", each)


def _graphs(what: str, model: Any, prompts: list[list[int]], ending: Ending) -> Iterator[Finding]:
    """Whether steps can be captured and replay what they compute, which the decoder compares, and how fast they are."""
    try:
        check_fixed_shapes(model)
        decoder = FixedDecoder(model, captured if torch.cuda.is_available() else None)
        decoder.decode(prompts, ending)  # captures
        form = "evaluate.cuda_graphs=true" if torch.cuda.is_available() else "in fixed shapes, not captured"
        yield _decoding(f"{what}, {form}", decoder.decode, prompts, ending)
        yield Finding("answering", f"{what}, replayed as computed", "yes", "", "yes", True)
        decoder.release()
    except (ModelError, RuntimeError) as error:
        yield Finding("answering", f"{what}, replayed as computed", words_of(error), "", "yes", False)


def precisions() -> list[Precision]:
    """Return the precisions that this device trains in."""
    if not torch.cuda.is_available():
        return ["fp32", "bf16"]
    half: list[Precision] = ["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return [*half, "fp16"]


def _methods(*names: str) -> list[str]:
    from importlib.util import find_spec

    return [name for name in names if name != "qlora" or find_spec("bitsandbytes")]


def _kernels() -> list[str]:
    from importlib.util import find_spec

    return ["torch", "liger"] if torch.cuda.is_available() and find_spec("liger_kernel") else ["torch"]


def _answering(loaded: LoadedModel, method: str) -> Any:
    return answering_model(loaded.model, models.METHODS[method], loaded.device)


def _vocabulary(loaded: LoadedModel) -> int:
    return int(loaded.model.config.vocab_size)


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    ids = torch.arange(10, 26, device=model.device)[None]
    logits: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return logits


def _forget() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


PARTS: dict[str, Callable[[Scale], Iterator[Finding]]] = {
    "card": card,
    "packing": packing,
    "answering-form": answering_form,
    "overflow": overflow,
    "speed": speed,
    "answering": answering,
    "roofline": roofline,
    "memory": memory,
    "equality": equality,
    "resume": resume,
}
