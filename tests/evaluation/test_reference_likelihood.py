import math
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.examples import Encoded
from medqa_finetune.errors import RunError
from medqa_finetune.evaluation import reference_likelihood
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.model.load import Device, load_model
from tests.evaluation.tiny import ARCHITECTURES, VOCABULARY, tiny_model
from tests.faulty import only_fault

SIZES = ((4, 9), (30, 3), (1, 1), (12, 25), (12, 25), (7, 1), (2, 50))


def encoded() -> list[Encoded]:
    """Pairs whose prompts and answers take so many tokens."""
    generator = torch.Generator().manual_seed(5)
    return [
        Encoded(torch.randint(3, VOCABULARY, (prompt + answer,), generator=generator).tolist(), prompt, cut=False)
        for prompt, answer in SIZES
    ]


def by_hand(model: Any, item: Encoded) -> float:
    """The likelihood of the answer from the logits of the whole pair, token by token."""
    with torch.no_grad():
        probabilities = model(input_ids=torch.tensor([item.input_ids])).logits[0].double().softmax(-1)
    places = range(item.answer_start, len(item.input_ids))
    return -sum(math.log(probabilities[place - 1, item.input_ids[place]]) for place in places)


def check(model: Any, batch_tokens: int) -> None:
    found = reference_likelihoods(model, encoded(), batch_tokens)
    assert [tokens for _, tokens in found] == [answer for _, answer in SIZES]
    assert [nll for nll, _ in found] == pytest.approx([by_hand(model, item) for item in encoded()], rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_likelihoods_are_those_of_the_whole_logits(architecture: str, batch_tokens: int) -> None:
    check(tiny_model(architecture), batch_tokens)


@pytest.mark.parametrize(
    "method",
    [
        MethodConfig(name="lora"),
        MethodConfig(name="qlora", quantization="nf4", double_quantization=True),
        MethodConfig(name="qlora", quantization="int8"),
    ],
    ids=["lora", "nf4", "int8"],
)
def test_adapters_and_quantized_bases_are_seen(micro_model: Path, method: MethodConfig) -> None:
    model: Any = load_model(micro_model, method, Device("cpu", "CPU", "fp32"), seed=0).model
    model.eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zeros at first: the adapter must be seen
            torch.nn.init.normal_(weight, std=0.1)
    check(model, 200)


@pytest.mark.parametrize("positions", [1, 2, 5, 30])
def test_logits_are_bounded_and_long_answers_taken_in_pieces(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_likelihood, "LOGITS", positions * VOCABULARY)
    monkeypatch.setattr(reference_likelihood, "LEAST_POSITIONS", 2)
    model = tiny_model("llama")
    most = 0

    def note(module: Any, arguments: Any, output: Any) -> None:
        nonlocal most
        most = max(most, output.shape[0] * output.shape[1])

    head = model.get_output_embeddings().register_forward_hook(note)
    found = reference_likelihoods(model, encoded(), 10_000)
    head.remove()
    assert most <= max(2, positions)
    assert [nll for nll, _ in found] == pytest.approx([by_hand(model, item) for item in encoded()], rel=1e-5)


def test_a_pass_holds_so_many_tokens_and_as_many_pairs_as_fit() -> None:
    model = tiny_model("qwen2")
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(lambda _, __, options: shapes.append(options["input_ids"].shape), with_kwargs=True)
    reference_likelihoods(model, encoded(), 120)
    # Longest first: 52 and 37 tokens; 37, 33 and 13; 8 and 2.
    assert shapes == [(2, 52), (3, 37), (2, 8)]


def test_a_likelihood_that_is_no_number_ends_the_run() -> None:
    model = tiny_model("qwen2")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(RunError) as caught:
        reference_likelihoods(model, [Encoded([3, 4, 5, 6], 2, cut=False)], 64)
    fault = only_fault(caught)
    assert (fault.code, fault.key, str(fault.got) == "nan") == ("not-finite", "loss", True)
    assert "precision=bf16" in fault.hint
