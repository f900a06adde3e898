import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from medqa_finetune.compat.key_value_cache import new_cache
from medqa_finetune.compat.peft import bare
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.evaluation import decode
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.model.load import Device, load_model
from tests.evaluation.tiny import ARCHITECTURES, PAD, VOCABULARY, tiny_model
from tests.faulty import only_fault

NEW_TOKENS = 16
LENGTHS = (3, 40, 7, 12, 12, 5, 21, 30, 9)


def prompts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def one_by_one(model: Any, asked: list[list[int]]) -> list[list[int]]:
    """What transformers' own generation says, each prompt alone, if nothing ends it."""
    answers = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        said = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
            eos_token_id=VOCABULARY + 1000, pad_token_id=PAD,
        )  # fmt: skip
        answers.append(said[0, len(prompt) :].tolist())
    return answers


def ended(answers: list[list[int]], end: int) -> list[list[int]]:
    return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]


def some_end(answers: list[list[int]]) -> int:
    """A token that ends some answers early, and not all."""
    counts = Counter(token for answer in answers for token in set(answer[: NEW_TOKENS // 2]))
    return max((token for token, count in counts.items() if count < len(answers)), key=counts.__getitem__)


def rows_per_pass(model: Any) -> list[int]:
    """The list to which each forward pass of the model adds its number of rows."""
    seen: list[int] = []

    def note(module: Any, arguments: Any, options: Any) -> None:
        seen.append(len(arguments[0] if arguments else options["input_ids"]))

    # Below the head: some releases of peft go past what is hooked onto the model that they adapt.
    bare(model).base_model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def check(model: Any, asked: list[list[int]]) -> None:
    """Hold the batch against the answers one by one, and see that rows left it."""
    alone = one_by_one(model, asked)
    end = some_end(alone)
    expected = ended(alone, end)
    assert len({len(answer) for answer in expected}) > 1
    rows = rows_per_pass(model)
    assert decode_greedily(model, asked, Ending((end,), PAD, NEW_TOKENS)) == expected
    assert rows[0] == len(asked)
    assert rows[-1] < len(asked)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_answers_like_generate_one_by_one(architecture: str) -> None:
    check(tiny_model(architecture), prompts())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompts_read_in_groups_answer_like_one_by_one(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = tiny_model(architecture), prompts()
    alone = one_by_one(model, asked)
    monkeypatch.setitem(decode.GROUP_TOKENS, "cpu", 2 * max(map(len, asked)))
    rows = rows_per_pass(model)
    cache = new_cache(model, 8)
    assert cache is not None
    assert decode_greedily(model, asked, Ending((), PAD, NEW_TOKENS)) == alone
    groups = [len(asked[group]) for group in decode.groups_of([*map(len, asked)], 2 * max(map(len, asked)))]
    assert len(groups) > 2
    # Where a layer forgets tokens, all prompts are read at once.
    assert rows[: len(groups)] == groups if cache.takes_groups() else rows[0] == len(asked)


@pytest.mark.parametrize(
    ("lengths", "tokens", "sizes"),
    [
        ([5], 1, [1]),
        ([9, 9, 9, 9], 18, [2, 2]),
        ([100, 99, 98, 20, 19, 18], 400, [3, 3]),
        ([3, 3, 100, 3], 100, [2, 1, 1]),
        ([10] * 7, 1000, [7]),
    ],
)
def test_groups_are_full_and_hardly_padded(lengths: list[int], tokens: int, sizes: list[int]) -> None:
    assert [len(lengths[group]) for group in decode.groups_of(lengths, tokens)] == sizes


@pytest.mark.parametrize("architecture", ["qwen2", "phi"])
def test_prompts_of_one_length_need_no_mask_and_answer_alike(architecture: str) -> None:
    model = tiny_model(architecture)
    masks: list[Any] = []
    model.register_forward_pre_hook(
        lambda _, __, options: masks.append(options.get("attention_mask")), with_kwargs=True
    )
    asked = prompts((9,) * 8)
    end = VOCABULARY + 1000
    found = decode_greedily(model, asked, Ending((end,), PAD, NEW_TOKENS))
    assert masks == [None] * NEW_TOKENS
    assert found == one_by_one(model, asked)


METHODS = {
    "lora": MethodConfig(name="lora"),
    "nf4": MethodConfig(name="qlora", quantization="nf4", double_quantization=True),
    "int8": MethodConfig(name="qlora", quantization="int8"),
}


@pytest.mark.parametrize("name", METHODS)
def test_adapters_and_quantized_bases_answer_like_generate(micro_model: Path, name: str) -> None:
    model: Any = load_model(micro_model, METHODS[name], Device("cpu", "CPU", "fp32"), seed=0).model
    model.eval()
    torch.manual_seed(1)
    for part, weight in model.named_parameters():
        if "lora_B" in part:  # zeros at first: the adapter must be seen
            torch.nn.init.normal_(weight, std=0.3)
    check(model, prompts())


def test_answers_in_half_precision_are_those_of_the_same_batch_in_generate() -> None:
    model, asked = tiny_model("qwen2").to(torch.bfloat16), prompts((9,) * 8)
    ids = torch.tensor(asked)
    said = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
        eos_token_id=VOCABULARY + 1000, pad_token_id=PAD,
    )[:, 9:].tolist()  # fmt: skip
    found = decode_greedily(model, asked, Ending((), PAD, NEW_TOKENS))
    assert [row[0] for row in found] == [row[0] for row in said]
    assert sum(a == b for a, b in zip(found, said, strict=True)) >= len(asked) - 1


def test_nothing_is_added_after_the_deadline() -> None:
    found = decode_greedily(tiny_model("llama"), prompts(), Ending((), PAD, NEW_TOKENS, time.monotonic()))
    assert [len(row) for row in found] == [1] * len(LENGTHS)


def test_decoding_stops_when_all_have_ended() -> None:
    model, asked = tiny_model("llama"), prompts((5,))
    [answer] = one_by_one(model, asked)
    rows = rows_per_pass(model)
    end = answer[3]
    assert decode_greedily(model, asked, Ending((end,), PAD, NEW_TOKENS)) == ended([answer], end)
    assert len(rows) == answer.index(end) + 1


def test_an_architecture_without_a_cache_is_refused() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ModelError) as caught:
        decode_greedily(model, prompts((5,)), Ending((1,), PAD, 2))
    fault = only_fault(caught)
    assert fault.code == "no-cache"
    assert "MambaForCausalLM" in fault.problem
