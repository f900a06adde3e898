"""Generates predictions with transformers: greedy, in batches of similar length, each written before the next."""

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Encoded, Example, context_of
from medqa_finetune.data.thoughts import split_thought
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.evaluation.decode import Decode, Ending, Model, decode_greedily
from medqa_finetune.evaluation.fixed_shapes import replaying
from medqa_finetune.evaluation.predictions import Prediction, to_row
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.evaluation.reuse import drop_other_endings, reused_rows
from medqa_finetune.evaluation.time_limit import TimedOutError, alarm
from medqa_finetune.model.stop_tokens import stop_ids
from medqa_finetune.progress import advance, track
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import keep_lines

log = logging.getLogger(__name__)

# Minimum grace in seconds beyond the time limit before generation within one token is considered hung.
HANG_SECONDS = 10.0


@dataclass(frozen=True)
class Output:
    """Tokens generated for one prompt, including the one that ended it, and whether the time limit cut them off."""

    tokens: list[int]
    timed_out: bool = False


@dataclass(frozen=True)
class Generated:
    """Cost of the predictions, including restarts: seconds of generation, questions answered and tokens generated.

    Predictions reused from another evaluation cost nothing.
    """

    seconds: float
    samples: int
    tokens: int

    def speed(self) -> dict[str, Any]:
        """Return the cost fields of an evaluation record: seconds and rates per second, None without predictions."""
        if not self.samples:
            return {"seconds": None, "samples_per_second": None, "tokens_per_second": None}
        return {
            "seconds": self.seconds,
            "samples_per_second": self.samples / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
        }


class PredictionWriter:
    """Divides the questions of an evaluation into batches and appends their predictions to disk.

    Batches written by an earlier start are kept, as are predictions reused from another evaluation. Each row also holds
    the negative log-likelihood of the reference, from which the perplexity is computed.

    Attributes:
        left: Batches that have no predictions yet, in order.
        stops: Tokens that end a prediction, which the evaluation's record has.
    """

    def __init__(
        self, model: Model, encoder: Encoder, pairs: Sequence[Example], settings: EvaluateConfig, folder: EvaluationDir
    ) -> None:
        self._encoder, self._folder, self._questions = encoder, folder, len(pairs)
        self.stops = stops_of(model, encoder)
        drop_other_endings(folder, self.stops, encoder.end_ids[-1])
        reused = {row.get("id") for row in reused_rows(folder)}
        asked = [pair for pair in pairs if pair.id not in reused]
        batches = list(_batches(encoder, asked, settings))
        done = keep_whole_batches(folder, [[pair.id for pair in batch] for batch in batches], len(reused))
        if done:
            log.info("%d of %d batches were answered before", done, len(batches))
        self._asked = len(asked)
        self.answered = len(reused) + sum(map(len, batches[:done]))
        self.left = batches[done:]
        self._questions_left = QuestionsCut(encoder, list(chain.from_iterable(self.left)))

    def encoded(self, batch: Sequence[Example]) -> list[Encoded]:
        """Return the questions of a batch with their references, as training would encode them."""
        return self._questions_left.encoded(batch)

    def write(
        self,
        batch: Sequence[Example],
        outputs: Sequence[Output],
        likelihoods: Sequence[tuple[float, int]],
        seconds: float,
    ) -> None:
        """Append a batch's predictions, generated in `seconds`; `likelihoods`: (summed nats, tokens) of references."""
        answers = [self._answer(*parts) for parts in zip(batch, outputs, likelihoods, strict=True)]
        self._folder.append_predictions(
            [to_row(answer) | context_of(pair) for answer, pair in zip(answers, batch, strict=True)]
        )
        self.answered += len(batch)
        advance(self.answered)
        tokens = sum(len(output.tokens) for output in outputs)
        self._folder.log_answered(
            {"answered": self.answered, "questions": self._questions, "seconds": seconds, "tokens": tokens}
        )

    def _answer(self, pair: Example, output: Output, likelihood: tuple[float, int]) -> Prediction:
        tokens = output.tokens
        prompt_cut, reference_cut = self._questions_left.cut[pair.id]
        ended = bool(tokens) and tokens[-1] in self.stops
        # What ends an answer is none of its text, even if the tokenizer does not call it special.
        answer = self._encoder.answer_of(tokens[:-1] if ended else tokens)
        thinks = self._encoder.thinks or answer.thought is not None
        return Prediction(
            id=pair.id,
            question=pair.question,
            references=(split_thought(pair.answer)[1],),
            prediction=answer.text,
            hit_limit=not output.timed_out and not ended,
            timed_out=output.timed_out,
            prediction_tokens=len(tokens),
            reference_nll=likelihood[0],
            reference_tokens=likelihood[1],
            thought=(answer.thought or "") if thinks else None,
            thought_unclosed=answer.unclosed if thinks else None,
            prompt_cut=prompt_cut,
            reference_cut=reference_cut,
        )

    def generated(self) -> Generated:
        """Return the cost of all predictions, including earlier starts."""
        rows = self._folder.read_answered()
        return Generated(sum(row["seconds"] for row in rows), self._asked, sum(row["tokens"] for row in rows))


class QuestionsCut:
    """Encoded questions with their references, and what of them was cut to fit `train.max_length`, which is logged.

    Attributes:
        cut: By id, whether the prompt is cut, and whether the reference is, of which the perplexity counts the rest.
    """

    def __init__(self, encoder: Encoder, pairs: Sequence[Example]) -> None:
        self._encoded = EncodedSet(encoder.encode(pairs))
        self._places = {pair.id: place for place, pair in enumerate(pairs)}
        self.cut: dict[str, tuple[bool, bool]] = {}
        end = encoder.end_ids
        prompts = encoder.fitted_prompts(pairs) if pairs else ()
        for pair, (_, prompt_cut) in zip(pairs, prompts, strict=True):
            item = self._encoded.encoded(self._places[pair.id])
            self.cut[pair.id] = (prompt_cut, item.cut and item.input_ids[-len(end) :] != end)
        for n, what in (
            (sum(prompt for prompt, _ in self.cut.values()), "are asked cut"),
            (sum(reference for _, reference in self.cut.values()), "count only a part of the reference in perplexity"),
        ):
            if n:
                share, limit = n / len(pairs), encoder.max_length
                said = "%s of %s test questions (%.1f %%) %s, to fit train.max_length=%s"
                log.warning(said, f"{n:,}", f"{len(pairs):,}", 100 * share, what, limit)

    def encoded(self, batch: Sequence[Example]) -> list[Encoded]:
        """Return some of the questions."""
        return [self._encoded.encoded(self._places[pair.id]) for pair in batch]


def generate_predictions(
    model: Model, encoder: Encoder, pairs: Sequence[Example], settings: EvaluateConfig, folder: EvaluationDir
) -> Generated:
    """Generate a prediction for every example and append it to `folder.predictions_path`, batch by batch."""
    model.eval()
    decode = replaying(model) if settings.cuda_graphs else None
    book = PredictionWriter(model, encoder, pairs, settings, folder)
    for batch in track(book.left, "answering", of=len(pairs), done=book.answered):
        prompts = encoder.prompts(batch)
        started = clock(model)
        outputs = generate_in_time(model, encoder, prompts, settings, decode)
        seconds = clock(model) - started
        likelihoods = reference_likelihoods(model, book.encoded(batch), settings.batch_tokens)
        book.write(batch, outputs, likelihoods, seconds)
    return book.generated()


def keep_whole_batches(folder: EvaluationDir, batches: Sequence[Sequence[str]], reused: int = 0) -> int:
    """Keep the complete batches of an earlier start, in order, and return their number.

    Rows of a partly written batch are cut off, and so is a batch whose cost is not recorded.

    Args:
        folder: Folder of the evaluation.
        batches: Ids of the questions of each batch, in order.
        reused: Number of rows before them that were reused from another evaluation.
    """
    answered = [row.get("id") for row in folder.read_predictions()][reused:]
    done = begin = 0
    for batch in batches[: len(folder.read_answered())]:
        if answered[begin : begin + len(batch)] != list(batch):
            break
        done, begin = done + 1, begin + len(batch)
    keep_lines(folder.predictions_path, reused + begin)
    keep_lines(folder.answering_path, done)
    return done


def _batches(encoder: Encoder, pairs: Sequence[Example], settings: EvaluateConfig) -> Iterator[list[Example]]:
    """Yield batches of questions of similar length, the longest first, so that running out of memory shows at once.

    A batch fits into `settings.batch_tokens`, counting padding and predictions of maximum length; a question that needs
    more forms a batch of its own.
    """
    if not pairs:
        return
    lengths = [len(ids) for ids in encoder.prompts(pairs)]
    order = sorted(range(len(pairs)), key=lambda index: (-lengths[index], index))
    begin = 0
    while begin < len(order):
        room = lengths[order[begin]] + settings.max_new_tokens
        size = min(settings.batch_size, max(1, settings.batch_tokens // room))
        yield [pairs[index] for index in order[begin : begin + size]]
        begin += size


def generate_in_time(
    model: Model,
    encoder: Encoder,
    prompts: Sequence[list[int]],
    settings: EvaluateConfig,
    decode: Decode | None = None,
) -> list[Output]:
    """Generate predictions for a batch of prompts within `settings.timeout_seconds`, by `decode_greedily` or `decode`.

    Predictions that have not ended by then are cut off. If generation hangs within one token, the whole batch gets
    empty predictions after a grace period.
    """
    deadline = time.monotonic() + settings.timeout_seconds
    stops = stops_of(model, encoder)
    ending = Ending(stops, int(encoder.tokenizer.pad_token_id), settings.max_new_tokens, deadline)
    try:
        with alarm(settings.timeout_seconds + max(HANG_SECONDS, settings.timeout_seconds / 2)):
            texts = (decode or decode_greedily)(model, prompts, ending)
    except TimedOutError:
        texts = [[] for _ in prompts]
    if time.monotonic() < deadline:
        return [Output(tokens) for tokens in texts]
    log.warning("a batch took longer than evaluate.timeout_seconds=%g; see timed_out", settings.timeout_seconds)
    return [Output(tokens, not has_ended(tokens, stops, settings)) for tokens in texts]


def has_ended(tokens: Sequence[int], stops: Collection[int], settings: EvaluateConfig) -> bool:
    """Return whether a prediction has ended by itself or at the limit of its tokens."""
    return len(tokens) >= settings.max_new_tokens or (bool(tokens) and tokens[-1] in stops)


def stops_of(model: Model, encoder: Encoder) -> tuple[int, ...]:
    """Return the tokens that end a model's predictions, ascending."""
    return stop_ids(model, encoder.tokenizer, encoder.end_ids[-1])


def clock(model: Model) -> float:
    """Return the time in seconds after the GPU has finished its queued work; only differences are meaningful."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
