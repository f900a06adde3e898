"""Let a model answer the test questions: greedy, in batches of like length, every batch on disk before the next."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import GenerationConfig

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoded, Encoder
from medqa_finetune.data.pairs import Pair
from medqa_finetune.evaluation.answers import Answer, to_row
from medqa_finetune.record.run_dir import RunDir

# Positions whose logits are held at once for the perplexity: with a vocabulary of 152k, 1024 take 0.6 GB in fp32.
LOGIT_POSITIONS = 1024

# A model with or without adapters; peft and transformers share no typed base that can generate.
Model = Any


@dataclass(frozen=True)
class Generated:
    """What answering cost: seconds of generation alone, questions answered and tokens generated in them."""

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

    Each row also holds how likely the reference answer is to the model, from which the perplexity follows.
    """
    model.eval()
    seconds, tokens = 0.0, 0
    batches = list(_batches(encoder, pairs, settings.batch_size))
    for batch in tqdm(batches, desc="answering", unit="batch", disable=None, leave=False):
        prompts = encoder.prompts([pair.question for pair in batch])
        started = _clock(model)
        outputs = generate_greedily(model, encoder, prompts, settings.max_new_tokens)
        seconds += _clock(model) - started
        tokens += sum(map(len, outputs))
        likelihoods = reference_likelihoods(model, list(encoder.encode(batch)))
        answers = [_answer(encoder, *parts) for parts in zip(batch, outputs, likelihoods, strict=True)]
        run.append_predictions([to_row(answer) for answer in answers])
    return Generated(seconds, len(pairs), tokens)


def _batches(encoder: Encoder, pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """Yield batches of questions of like length, the longest first, so that running out of memory shows at once."""
    lengths = [len(ids) for ids in encoder.prompts([pair.question for pair in pairs])]
    order = sorted(range(len(pairs)), key=lambda index: (-lengths[index], index))
    for begin in range(0, len(order), size):
        yield [pairs[index] for index in order[begin : begin + size]]


def _answer(encoder: Encoder, pair: Pair, output: list[int], likelihood: tuple[float, int]) -> Answer:
    return Answer(
        id=pair.id,
        question=pair.question,
        references=(pair.answer,),
        prediction=str(encoder.tokenizer.decode(output, skip_special_tokens=True)).strip(),
        hit_limit=encoder.end_ids[-1] not in output,
        prediction_tokens=len(output),
        reference_nll=likelihood[0],
        reference_tokens=likelihood[1],
    )


@torch.inference_mode()
def generate_greedily(
    model: Model, encoder: Encoder, prompts: Sequence[list[int]], max_new_tokens: int
) -> list[list[int]]:
    """Return the most likely next tokens of each prompt, one after another, up to and with the end token.

    Args:
        model: The model to ask.
        encoder: Knows the tokens that pad and end.
        prompts: Token ids; padded on the left here, so that all answers begin at the same position.
        max_new_tokens: Tokens per answer at most; an answer that reaches it may lack the end token.
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
    output = model.generate(input_ids=ids, attention_mask=torch.tensor(masks, device=model.device))
    answers: list[list[int]] = output[:, longest:].tolist()
    return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]


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
