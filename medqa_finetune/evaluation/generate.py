"""Let a model answer the test questions: greedy, in batches of like length, every batch on disk before the next."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoded, Encoder
from medqa_finetune.data.pairs import Pair
from medqa_finetune.evaluation.alarm import TimedOutError, alarm
from medqa_finetune.evaluation.answers import Answer, to_row
from medqa_finetune.record.files import keep_lines
from medqa_finetune.record.run_dir import RunDir

log = logging.getLogger(__name__)

# Positions whose logits are held at once for the perplexity: with a vocabulary of 152k, 1024 take 0.6 GB in fp32.
LOGIT_POSITIONS = 1024

# How much longer than the time allowed one token may take, at least, before generation is taken to hang.
HANG_SECONDS = 10.0

# A model with or without adapters; peft and transformers share no typed base that can generate.
Model = Any


@dataclass(frozen=True)
class Output:
    """Tokens generated for one prompt, the end token included, and whether time ran out before it."""

    tokens: list[int]
    timed_out: bool = False


@dataclass(frozen=True)
class Generated:
    """What answering cost, restarts included: seconds of generation alone, questions answered and tokens generated."""

    seconds: float
    samples: int
    tokens: int

    def speed(self) -> dict[str, Any]:
        """Return the fields of an evaluation record that speak of cost."""
        return {
            "seconds": self.seconds,
            "samples_per_second": self.samples / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
        }


def generate_answers(
    model: Model, encoder: Encoder, pairs: Sequence[Pair], settings: EvaluateConfig, run: RunDir
) -> Generated:
    """Answer the question of every pair and append the answers to `run.predictions_path`, batch by batch.

    Batches that an earlier start answered are kept. Each row also holds how likely the reference answer is to the
    model, from which the perplexity follows.
    """
    model.eval()
    batches = list(_batches(encoder, pairs, settings.batch_size))
    done = keep_answered(run, [[pair.id for pair in batch] for batch in batches])
    if done:
        log.info("%d of %d batches were answered before", done, len(batches))
    answered = sum(map(len, batches[:done]))
    for batch in tqdm(batches[done:], desc="answering", unit="batch", disable=None, leave=False):
        prompts = encoder.prompts([pair.question for pair in batch])
        started = _clock(model)
        outputs = generate_in_time(model, encoder, prompts, settings)
        seconds = _clock(model) - started
        likelihoods = reference_likelihoods(model, list(encoder.encode(batch)))
        answers = [_answer(encoder, *parts) for parts in zip(batch, outputs, likelihoods, strict=True)]
        run.append_predictions([to_row(answer) for answer in answers])
        answered += len(batch)
        tokens = sum(len(output.tokens) for output in outputs)
        run.log_answered({"answered": answered, "questions": len(pairs), "seconds": seconds, "tokens": tokens})
    rows = run.read_answered()
    return Generated(sum(row["seconds"] for row in rows), len(pairs), sum(row["tokens"] for row in rows))


def keep_answered(run: RunDir, batches: Sequence[Sequence[str]]) -> int:
    """Keep of an earlier start's answers the whole batches, in order, and return their number.

    What a kill left of a batch is cut off, and so is a batch whose cost is not on record.

    Args:
        run: The run.
        batches: Ids of the questions, as they are asked.
    """
    answered = [row.get("id") for row in run.read_predictions()]
    done = begin = 0
    for batch in batches[: len(run.read_answered())]:
        if answered[begin : begin + len(batch)] != list(batch):
            break
        done, begin = done + 1, begin + len(batch)
    keep_lines(run.predictions_path, begin)
    keep_lines(run.answering_path, done)
    return done


def _batches(encoder: Encoder, pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """Yield batches of questions of like length, the longest first, so that running out of memory shows at once."""
    lengths = [len(ids) for ids in encoder.prompts([pair.question for pair in pairs])]
    order = sorted(range(len(pairs)), key=lambda index: (-lengths[index], index))
    for begin in range(0, len(order), size):
        yield [pairs[index] for index in order[begin : begin + size]]


def _answer(encoder: Encoder, pair: Pair, output: Output, likelihood: tuple[float, int]) -> Answer:
    return Answer(
        id=pair.id,
        question=pair.question,
        references=(pair.answer,),
        prediction=str(encoder.tokenizer.decode(output.tokens, skip_special_tokens=True)).strip(),
        hit_limit=not output.timed_out and encoder.end_ids[-1] not in output.tokens,
        timed_out=output.timed_out,
        prediction_tokens=len(output.tokens),
        reference_nll=likelihood[0],
        reference_tokens=likelihood[1],
    )


def generate_in_time(
    model: Model, encoder: Encoder, prompts: Sequence[list[int]], settings: EvaluateConfig
) -> list[Output]:
    """Answer a batch of prompts within `settings.timeout_seconds`.

    Answers that have not ended by then are cut off. Should generation hang within one token, the whole batch is given
    up a little later, its answers empty.
    """
    deadline = time.monotonic() + settings.timeout_seconds
    try:
        with alarm(settings.timeout_seconds + max(HANG_SECONDS, settings.timeout_seconds / 2)):
            texts = generate_greedily(model, encoder, prompts, settings.max_new_tokens, deadline)
    except TimedOutError:
        texts = [[] for _ in prompts]
    if time.monotonic() < deadline:
        return [Output(tokens) for tokens in texts]
    log.warning("a batch took longer than evaluate.timeout_seconds=%g; see timed_out", settings.timeout_seconds)
    end = encoder.end_ids[-1]
    return [Output(tokens, end not in tokens and len(tokens) < settings.max_new_tokens) for tokens in texts]


@torch.inference_mode()
def generate_greedily(
    model: Model, encoder: Encoder, prompts: Sequence[list[int]], max_new_tokens: int, deadline: float = math.inf
) -> list[list[int]]:
    """Return the most likely next tokens of each prompt, one after another, up to and with the end token.

    Args:
        model: The model to ask.
        encoder: Knows the tokens that pad and end.
        prompts: Token ids; padded on the left here, so that all answers begin at the same position.
        max_new_tokens: Tokens per answer at most; an answer that reaches it may lack the end token.
        deadline: Moment of `time.monotonic()` after which no token is added.
    """
    longest = max(map(len, prompts))
    pad, end = int(encoder.tokenizer.pad_token_id), encoder.end_ids[-1]
    rows = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    masks = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    # Whole and our own, so that sampling or penalties in a model's generation_config.json cannot leak in.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, eos_token_id=end, pad_token_id=pad, use_cache=True
    )
    ids = torch.tensor(rows, device=model.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.tensor(masks, device=model.device),
        stopping_criteria=StoppingCriteriaList([_Deadline(deadline)]),
    )
    answers: list[list[int]] = output[:, longest:].tolist()
    return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]


class _Deadline(StoppingCriteria):
    """transformers' own goes by the time of day, which may be set."""

    def __init__(self, moment: float) -> None:
        self._moment = moment

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        return torch.full((len(input_ids),), time.monotonic() >= self._moment, device=input_ids.device)


@torch.inference_mode()
def reference_likelihoods(model: Model, encoded: Sequence[Encoded]) -> list[tuple[float, int]]:
    """Return, for each pair, the summed negative log-likelihood (nats) of answer and end token, and their number."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    body, head = getattr(bare, bare.base_model_prefix), bare.get_output_embeddings()
    results = []
    for item in encoded:
        ids = torch.tensor([item.input_ids], device=model.device)
        targets = ids[0, item.answer_start :]
        # The state at position i predicts token i + 1, and only the answer's logits are computed.
        states = body(input_ids=ids, use_cache=False).last_hidden_state[0, item.answer_start - 1 : -1]
        total = 0.0
        for begin in range(0, len(targets), LOGIT_POSITIONS):
            logits = head(states[begin : begin + LOGIT_POSITIONS]).float()
            chunk = targets[begin : begin + LOGIT_POSITIONS]
            total += torch.nn.functional.cross_entropy(logits, chunk, reduction="sum").item()
        results.append((total, len(targets)))
    return results


def _clock(model: Model) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
