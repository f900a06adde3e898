"""Greedy decoding in fixed shapes, whose steps a GPU replays as CUDA graphs.

A step of decoding takes a GPU less time than Python needs to launch its kernels one by one. A graph is launched as a
whole, but replays the very same kernels on the very same memory. So keys, values, masks and tokens lie in tensors that
outlive a batch, and where the next token goes is itself in a tensor. A step attends to a window of whole blocks, in
which the tokens to come are masked. Rows that have ended stay until a step of fewer rows holds the others. Each number
of rows and each window has a graph of its own, captured when it is first needed.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from medqa_finetune.architecture.experts import experts_of
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.key_value_cache import fixed_cache
from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.transformers import is_eight_bit
from medqa_finetune.config.evaluation_checks import GRAPHS, graphs_need_gpu
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.evaluation.cuda_graph import captured
from medqa_finetune.evaluation.decode import Batch, Decode, Ending, Model, decode_greedily, most_likely, up_to_end
from medqa_finetune.model.attention import TRIAL_TOLERANCE, distance

log = logging.getLogger(__name__)

# Tokens by which the window grows that a step attends to.
WINDOW = 128
# Rows up to this number are rounded up to a power of two, others to a multiple of it.
FEW_ROWS = 16
# Tokens after which the host looks which rows have ended.
LOOK_EVERY = 4
# Prompts on which fixed shapes are tried.
TRIAL_PROMPTS = ([5, 6, 7], [8, 9, 10, 11, 12])

# Turns a step, which may be run any number of times before, into one that is replayed.
Capture = Callable[[Callable[[], object], Callable[[], None]], Callable[[], None]]


def check_graphs(model: Model) -> None:
    """Check that the steps of a model can be captured.

    Raises:
        ModelError: it is on no GPU, or as `check_fixed_shapes`.
    """
    if model.device.type != "cuda":
        raise ModelError(graphs_need_gpu(model.device.type))
    check_fixed_shapes(model)


def check_fixed_shapes(model: Model) -> None:
    """Check that a model can decode in fixed shapes, by its kind and by a trial; nothing about it changes.

    Raises:
        ModelError: it has experts, 8-bit layers or a cache of another kind than of all tokens, or says something else.
    """
    base = bare(model)
    if experts_of({name: tuple(weight.shape) for name, weight in base.named_parameters()}):
        raise _cannot(base, "the host decides which experts compute")
    if is_eight_bit(base):
        raise _cannot(base, "8-bit layers ask the host which columns are large")
    was_training = model.training
    try:
        apart = _trial(model.eval())
    except ModelError:
        raise
    except Exception as error:  # a model that builds masks or positions itself fails in its own way
        raise _cannot(base, words_of(error)) from None
    finally:
        model.train(was_training)
    tolerance = TRIAL_TOLERANCE.get(base.dtype, max(TRIAL_TOLERANCE.values()))
    if not apart <= tolerance:
        raise _cannot(base, f"its logits come out {apart:.0%} different")


@torch.inference_mode()
def _trial(model: Model) -> float:
    """Return how far the logits of a token in fixed shapes are from those of the usual way."""
    ending = Ending((), 0, 2)
    usual = Batch(model, TRIAL_PROMPTS, ending)
    first = most_likely(usual.next_logits(usual.ids))
    expected = usual.next_logits(first.unsqueeze(1))
    decoder = FixedDecoder(model)
    rows = decoder.begin(TRIAL_PROMPTS, ending)
    return distance(expected, decoder.compute(rows, WINDOW)[: len(first)])


def _cannot(base: Any, reason: str) -> ModelError:
    problem = f"{type(base).__name__} cannot decode in fixed shapes ({reason})"
    return ModelError(Fault("not-supported", problem, key=GRAPHS, got=True, allowed=("false",)))


def replaying(model: Model) -> Decode:
    """Return a function that decodes batches of a model, one after another, by steps that are replayed.

    Raises:
        ModelError: there is no GPU, or the model does not allow it.
    """
    check_graphs(model)
    return Replaying(FixedDecoder(model, captured))


class Replaying:
    """Decodes batches by a decoder that replays steps; if one cannot be captured, says so and goes on the usual way.

    Args:
        decoder: Its steps are captured.
    """

    def __init__(self, decoder: "FixedDecoder") -> None:
        self._decoder: FixedDecoder | None = decoder

    def __call__(self, model: Model, prompts: Sequence[list[int]], ending: Ending) -> list[list[int]]:
        """Return what `decode_greedily` returns."""
        if self._decoder is not None:
            try:
                return self._decoder.decode(prompts, ending)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("%s=true: a step cannot be captured, and answering goes on without (%s)", GRAPHS, error)
                self._decoder.release()
                self._decoder = None
        return decode_greedily(model, prompts, ending)


class FixedDecoder:
    """Decodes batches of one model in tensors that it keeps.

    Args:
        model: In evaluation mode.
        capture: Makes a step replayable; None runs each step anew, with the same result.

    Raises:
        ModelError: the model's cache is of another kind.
    """

    def __init__(self, model: Model, capture: Capture | None = None) -> None:
        base = bare(model)
        self._model, self._capture, self._device = model, capture, model.device
        # Where the keys and values of the next token go, and the token itself among the predictions.
        self._place = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._number = torch.zeros(1, dtype=torch.int64, device=self._device)
        cache = fixed_cache(base, self._place)
        if cache is None:
            raise _cannot(base, "not every layer keeps the keys and values of all tokens")
        self._cache, self._dtype = cache, base.dtype
        self._masked = torch.finfo(self._dtype).min
        self._steps: dict[tuple[int, int], Callable[[], None]] = {}
        self._rows = self._room = self._new = 0
        self._stops: tuple[int, ...] | None = None
        self._logits: torch.Tensor | None = None

    @torch.inference_mode()
    def decode(self, prompts: Sequence[list[int]], ending: Ending) -> list[list[int]]:
        """Do what `decode_greedily` does."""
        rows, said = self.begin(prompts, ending), 1
        filled, places = max(map(len, prompts)), list(range(len(prompts)))
        found: list[list[int]] = [[] for _ in prompts]
        while True:
            if said in (1, ending.max_new_tokens) or said % LOOK_EVERY == 0:
                staying = (~self._ended[: len(places)]).nonzero().squeeze(1)
                over = said == ending.max_new_tokens or time.monotonic() >= ending.deadline
                fewer = 0 if over else _few(len(staying), self._rows)
                if fewer < rows:
                    self._take(found, places, said)
                    if fewer == 0:
                        break
                    self._keep(staying, filled)
                    places, rows = [places[row] for row in staying.tolist()], fewer
            self._step(rows, min(self._room, _whole(filled + 1, WINDOW)))()
            filled, said = filled + 1, said + 1
        return [up_to_end(row, ending.stop_ids) for row in found]

    @torch.inference_mode()
    def begin(self, prompts: Sequence[list[int]], ending: Ending) -> int:
        """Read prompts and choose the first token of each; return the number of rows of a step."""
        longest = max(map(len, prompts))
        rows = _few(len(prompts), _whole(len(prompts), FEW_ROWS))
        self._make_room(rows, _whole(longest + ending.max_new_tokens, WINDOW), ending)
        self._cache.begin(self._rows, self._room)
        batch = Batch(self._model, prompts, ending, self._cache)
        first = most_likely(batch.next_logits(batch.ids))
        given = len(prompts)
        self._mask.fill_(self._masked)
        self._mask[:given, 0, 0, :longest].masked_fill_(batch.seen[:, :longest], 0.0)
        self._positions.zero_()
        self._positions[:given] = batch.lengths
        self._takes_positions = batch.takes_positions
        self._ids[:given] = self._tokens[:given, :1] = first.unsqueeze(1)
        self._ended[:given] = torch.isin(first, self._stop_ids)
        self._place.fill_(longest)
        self._number.fill_(1)
        return rows

    def _make_room(self, rows: int, room: int, ending: Ending) -> None:
        """Keep tensors that are large enough, and the steps that use them; else make new ones."""
        fits = rows <= self._rows and room <= self._room and ending.max_new_tokens <= self._new
        if fits and self._stops == ending.stop_ids:
            return
        self.release()
        self._rows, self._room, self._new, self._stops = rows, room, ending.max_new_tokens, ending.stop_ids
        device = self._device
        self._ids = torch.zeros((rows, 1), dtype=torch.int64, device=device)
        self._positions = torch.zeros((rows, 1), dtype=torch.int64, device=device)
        self._mask = torch.empty((rows, 1, 1, room), dtype=self._dtype, device=device)
        self._tokens = torch.zeros((rows, ending.max_new_tokens), dtype=torch.int64, device=device)
        self._ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self._stop_ids = torch.tensor(ending.stop_ids, dtype=torch.int64, device=device)

    def release(self) -> None:
        """Free all memory that is kept from one batch to the next."""
        self._steps.clear()
        self._cache.release()
        self._rows = self._room = self._new = 0
        self._logits = None

    def compute(self, rows: int, window: int) -> torch.Tensor:
        """Return the logits of the next token of each row, of shape (rows, vocabulary); may be run again."""
        mask = self._mask[:rows, :, :, :window]
        mask.index_fill_(3, self._place, 0.0)
        options: dict[str, Any] = self._cache.shown(rows, window)
        if self._takes_positions:
            options["position_ids"] = self._positions[:rows]
        ids = self._ids[:rows]
        logits: torch.Tensor = self._model(
            input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1, **options
        ).logits[:, -1]
        return logits

    def advance(self, rows: int, window: int) -> None:
        """Compute the next token of each row, and put it where the one after it is computed from."""
        self._logits = self.compute(rows, window)
        latest = most_likely(self._logits).unsqueeze(1)
        self._tokens[:rows].index_copy_(1, self._number, latest)
        self._ended[:rows].logical_or_((latest == self._stop_ids).any(1))
        self._ids[:rows].copy_(latest)
        for each in (self._positions, self._place, self._number):
            each.add_(1)

    def _step(self, rows: int, window: int) -> Callable[[], None]:
        """Return the step for these shapes; what a new one replays is compared with what it computes."""
        known = self._steps.get((rows, window))
        if known is not None:
            return known

        def step() -> None:
            self.advance(rows, window)

        if self._capture is None:
            self._steps[rows, window] = step
            return step
        expected = self.compute(rows, window).clone()
        replay = self._capture(lambda: self.compute(rows, window), step)
        self._steps[rows, window] = replay

        def first() -> None:
            replay()
            apart = math.nan if self._logits is None else distance(expected, self._logits)
            if not apart <= TRIAL_TOLERANCE.get(self._dtype, max(TRIAL_TOLERANCE.values())):
                raise RuntimeError(f"a replayed step comes out {apart:.0%} different")

        return first

    def _take(self, found: list[list[int]], places: Sequence[int], said: int) -> None:
        """Copy what all rows have said to their places in `found`; those that stay are taken again."""
        for place, tokens in zip(places, self._tokens[: len(places), :said].tolist(), strict=True):
            found[place] = tokens

    def _keep(self, staying: torch.Tensor, filled: int) -> None:
        """Move the rows that stay to the front."""
        self._cache.keep_first(staying, filled)
        for each in (self._ids, self._positions, self._mask, self._tokens, self._ended):
            each[: len(staying)] = each[staying]


def _few(rows: int, most: int) -> int:
    """Return the rows of a step that has at least these: a power of two where there are few; 0 for none."""
    if rows == 0:
        return 0
    return min(most, 1 << (rows - 1).bit_length()) if rows <= FEW_ROWS else min(most, _whole(rows, FEW_ROWS))


def _whole(number: int, block: int) -> int:
    return -(-number // block) * block
