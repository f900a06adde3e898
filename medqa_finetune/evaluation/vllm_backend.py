"""vLLM backend (`evaluate.backend=vllm`, an extra): same prompts, same end tokens, same rows on disk as transformers.

vLLM supports neither bitsandbytes weights nor a model in this process's memory, so plain weights are exported to
temporary files: in fp32 with the adapter merged, in half precision with a separate adapter. Likelihoods of the
references are computed first, by the model itself, which is then moved off the GPU.
"""

import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import cast

import torch

from medqa_finetune.architecture.size import read_size
from medqa_finetune.child_process import Child, NoReplyError, stream
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import Fault, ModelError, RunError
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.evaluation.generate import HANG_SECONDS, Generated, Output, PredictionWriter
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.evaluation.vllm_engine import Asked, Said, answer, engine_fault
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.fp32_blocks import names_in_fp32
from medqa_finetune.model.parameters import adapts_embeddings
from medqa_finetune.model.plain_export import Plain, write_plain
from medqa_finetune.model.pruned import build_skeleton, layer_sizes
from medqa_finetune.model.requirements import Need
from medqa_finetune.precision import DTYPE_WIDTH, Precision
from medqa_finetune.progress import track
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import TEMPORARY_PREFIX

ADVICE = "evaluate.backend=transformers answers with it."
# Loading weights from a slow disk, compiling kernels and recording CUDA graphs takes minutes.
START_SECONDS = 1800.0
# vLLM reports usage to a server by default. For the last variable see `vllm_engine`.
VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def generate_predictions(
    model: Model, encoder: Encoder, pairs: Sequence[Example], settings: EvaluateConfig, folder: EvaluationDir
) -> Generated:
    """Generate predictions with vLLM, as `generate.generate_predictions` does; a batch is only the unit of writing.

    The model is moved off its device. Seconds count generation only, from when vLLM is ready.

    Raises:
        RunError: vLLM failed, or would overflow.
    """
    if blocks := names_in_fp32(model):
        problem = f"computes all of a model in half precision, and {', '.join(blocks)} of this one overflow there"
        raise RunError(Fault("not-supported", problem, key="evaluate.backend", got="vllm", hint=ADVICE))
    model.eval()
    book = PredictionWriter(model, encoder, pairs, settings, folder)
    if not book.left:
        return book.generated()
    likelihoods = [reference_likelihoods(model, book.encoded(batch), settings.batch_tokens) for batch in book.left]
    prompts = [encoder.prompts(batch) for batch in book.left]
    # In the evaluation's folder: the system's temporary folder is often a small RAM disk.
    with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY_PREFIX}vllm-", dir=folder.path) as name:
        place = Path(name)
        plain = write_plain(model, place)
        _make_room(model)
        asked = _asked(plain, book.stops, settings, list(chain(*prompts)))
        with ask(asked, settings.timeout_seconds) as said:
            outputs = _by_batch(said, [len(batch) for batch in prompts])
            expected = [*zip(book.left, likelihoods, strict=True)]
            for batch, found in track(expected, "answering", of=len(pairs), done=book.answered):
                answers, seconds = next(outputs)
                book.write(batch, answers, found, seconds)
    return book.generated()


def serving_faults(needs: Sequence[Need], precision: Precision) -> Iterator[Fault]:
    """Yield the faults of models that vLLM cannot serve, found by generating two tokens with random weights.

    Only vLLM itself knows what it can serve, and a fault after training would come too late.

    Args:
        needs: Requirements of the runs with this backend.
        precision: Precision that `auto` resolves to.
    """
    trials: dict[str, Asked] = {}
    for need in needs:
        try:
            asked = _trial(need, precision if need.precision == AUTO else cast(Precision, need.precision))
            trials[repr(asked)] = asked
        except ModelError as error:
            yield from error.faults
    for asked in trials.values():
        try:
            with ask(asked, START_SECONDS) as said:
                list(said)
        except RunError as error:
            for fault in error.faults:
                problem = f"cannot serve {asked.model} in {asked.dtype}: {fault.problem}"
                yield Fault("not-served", problem, key="evaluate.backend", got="vllm", hint=ADVICE)


def _trial(need: Need, precision: Precision) -> Asked:
    """Return the request that tests whether vLLM serves the model to be trained.

    Raises:
        ModelError: it is already known that vLLM does not.
    """
    folder = Path(need.folder).resolve()
    if layer_sizes(build_skeleton(folder)) is not None:
        problem = f"{folder} has layers of different sizes, which it cannot load"
        raise ModelError(Fault("uneven-layers", problem, key="evaluate.backend", got="vllm", hint=ADVICE))
    method = model_method(need.method)
    dtype, rank = method.plain_form(precision)
    if rank is not None and adapts_embeddings(method.apply(build_skeleton(folder))):
        problem = f"in {precision} the adapter is not merged, and vLLM serves none on token embeddings and heads"
        hint = f"Give precision=fp32, or other modules; {ADVICE}"
        got = need.method.target_modules
        raise ModelError(Fault("not-supported", problem, key="method.target_modules", got=got, hint=hint))
    return Asked(
        model=str(folder), dtype=dtype, adapter=None, rank=rank, trial=True, eager=True, cache_tokens=0,
        token_bytes=_token_bytes(folder, dtype), at_once=1, length=need.max_length + need.max_new_tokens, stop_ids=[0],
        max_new_tokens=2, timeout_seconds=START_SECONDS, prompts=[[0]],
    )  # fmt: skip


def _asked(plain: Plain, stops: Sequence[int], settings: EvaluateConfig, prompts: list[list[int]]) -> Asked:
    return Asked(
        model=str(plain.model.resolve()), dtype=plain.dtype, rank=plain.rank, trial=False,
        adapter=None if plain.adapter is None else str(plain.adapter.resolve()),
        # Compilation on a CPU needs a C++ compiler.
        eager=not torch.cuda.is_available(),
        cache_tokens=settings.batch_tokens, token_bytes=_token_bytes(plain.model, plain.dtype),
        at_once=settings.batch_size, length=max(map(len, prompts)) + settings.max_new_tokens,
        stop_ids=list(stops), max_new_tokens=settings.max_new_tokens, timeout_seconds=settings.timeout_seconds,
        prompts=prompts,
    )  # fmt: skip


def _token_bytes(folder: Path, dtype: str) -> int:
    """Return the bytes of cached keys and values per token, over all layers."""
    size = read_size(folder)
    if size is None:
        problem = f"{folder} does not say how large its layers are"
        raise ModelError(Fault("layer-sizes-unknown", problem, key="evaluate.backend", got="vllm", hint=ADVICE))
    return 2 * sum(size.key_widths) * DTYPE_WIDTH[dtype]


def _make_room(model: Model) -> None:
    """Move the model off the GPU and release the memory."""
    model.to("cpu")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _by_batch(said: Iterator[Said], sizes: Sequence[int]) -> Iterator[tuple[list[Output], float]]:
    """Yield the predictions of each batch, in order, and the seconds since the previous batch.

    Args:
        said: Predictions, in the order in which they end.
        sizes: Number of prompts of each batch.
    """
    found: dict[int, Output] = {}
    begin, now, before = 0, 0.0, 0.0
    for size in sizes:
        places = range(begin, begin + size)
        while not all(place in found for place in places):
            answer = next(said)
            found[answer.place], now = Output(answer.tokens, answer.timed_out), answer.seconds
        yield [found.pop(place) for place in places], now - before
        begin, before = begin + size, now


@contextmanager
def ask(asked: Asked, patience: float) -> Iterator[Iterator[Said]]:
    """Start vLLM and, once it is ready, yield an iterator of its predictions as they end.

    Args:
        asked: The request.
        patience: Maximum seconds between two predictions, to which a grace period is added.

    Raises:
        RunError: vLLM failed, exited, or timed out.
    """
    defaults = {"VLLM_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    variables = {key: value for key, value in defaults.items() if key not in os.environ} | VARIABLES
    with stream(answer, asked, quiet=True, environment=variables) as child:
        for _ in _answers(child, START_SECONDS):
            break  # the first reply says that it is ready
        yield _answers(child, patience + max(HANG_SECONDS, patience / 2))


def _answers(child: Child[Said], seconds: float) -> Iterator[Said]:
    try:
        yield from child.replies(seconds)
    except NoReplyError as error:
        if error.timed_out:
            raise RunError(engine_fault("timed-out", f"vLLM said nothing for {seconds:g} seconds")) from None
        problem = f"vLLM {error.problem} before it had answered"
        raise RunError(engine_fault("process-ended", problem)) from None
