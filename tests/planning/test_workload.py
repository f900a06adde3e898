"""What is counted of a cell's work, against counting all of it."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.architecture.size import read_size
from medqa_finetune.config.schema import Config, CorpusConfig, DataConfig, MethodConfig, ModelConfig, TrainConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.prepare import prepare_splits
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import ModelError
from medqa_finetune.model.estimate import PROCESS_BYTES, Machine, training_memory
from medqa_finetune.model.load import load_tokenizer
from medqa_finetune.planning import workload as room
from medqa_finetune.planning.cost_model import forecast_from_workload
from medqa_finetune.planning.token_counts import TokenCounts
from medqa_finetune.planning.workload import count_work, heaviest_step, size_of, workload_of, workload_on_card
from tests.faulty import only_fault

CPU = Machine("cpu", "CPU", 2**34)
NONE = MethodConfig(name="none", trains="nothing")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def cell(model: Path, method: MethodConfig | None = None, **train: Any) -> Config:
    settings: dict[str, Any] = {"epochs": 2.0, "max_length": 256, "batch_size": 8, "gradient_checkpointing": False}
    return Config(
        method=method or MethodConfig(name="lora"),
        data=DataConfig(name="20k", train_size=40, validation_size=8, test_size=6),
        corpus=CorpusConfig(name="embedded", source="embedded"),
        model=ModelConfig(name="micro", path=str(model)),
        train=TrainConfig(**settings | train),
    )


def test_tokens_of_a_small_set_are_counted_exactly(micro_model: Path, cache: Path) -> None:
    config = cell(micro_model)
    facts = count_work(config, cache, CPU)
    splits = prepare_splits(config, cache)
    encoder = Encoder(load_tokenizer(micro_model), 256)
    train, validation = EncodedSet(encoder.encode(splits.train)), EncodedSet(encoder.encode(splits.validation))
    assert (facts.steps, facts.train_pairs, facts.train_tokens) == (10, 40, 2 * train.tokens)
    assert facts.validation_tokens == config.train.validations * validation.tokens
    assert facts.questions == 6
    assert facts.prompt_tokens == sum(map(len, encoder.prompts(splits.test)))
    assert facts.answer_tokens == sum(len(item.input_ids) - item.answer_start for item in encoder.encode(splits.test))
    assert len(facts.heaviest) == 8


def test_steps_are_limited(micro_model: Path, cache: Path) -> None:
    whole, cut = count_work(cell(micro_model), cache, CPU), count_work(cell(micro_model, max_steps=3), cache, CPU)
    assert cut.steps == 3
    assert cut.train_tokens == pytest.approx(whole.train_tokens * 24 / 80, abs=1)


def test_checkpointing_computes_layers_twice(micro_model: Path, cache: Path) -> None:
    plain, again = (
        count_work(cell(micro_model, gradient_checkpointing=switch), cache, CPU).train_flops for switch in (False, True)
    )
    assert 1.2 * plain < again < 1.5 * plain


def test_the_base_has_nothing_to_train(micro_model: Path, cache: Path) -> None:
    facts = count_work(cell(micro_model, NONE), cache, CPU)
    assert (facts.steps, facts.train_tokens, facts.train_flops, facts.heaviest) == (0, 0, 0, [])
    assert facts.prompt_flops > 0


def test_of_many_pairs_a_sample_is_counted(micro_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count_work(cell(micro_model), cache, CPU)
    monkeypatch.setattr(room, "SAMPLE", 20)
    assert count_work(cell(micro_model), cache, CPU).train_tokens == pytest.approx(whole.train_tokens, rel=0.3)


def sample(*lengths: int) -> TokenCounts:
    # The places are those in the training set, of which this is every tenth.
    ones = [1] * len(lengths)
    return TokenCounts(list(lengths), ones, ones, [10 * place for place in range(len(lengths))])


def test_heaviest_step_is_one_that_fills_pack_most(micro_model: Path) -> None:
    lengths = random.Random(0).choices(range(5, 60), k=40)  # noqa: S311
    config = cell(micro_model, batch_size=4, micro_batch=1)
    places, held = heaviest_step(sample(*lengths), config, steps=200)
    assert len(places) == 4
    assert sum(lengths[place // 10] for place in places) == held
    # Near the heaviest there can be, and never above what a pack may hold.
    assert 0.8 * sum(sorted(lengths)[-4:]) < held <= 256
    assert heaviest_step(sample(*[200] * 9), config, steps=5)[1] == 200


def test_padding_counts_where_there_is_some(micro_model: Path) -> None:
    config = cell(micro_model, batch_size=2, micro_batch=2, packing=False)
    assert heaviest_step(sample(10, 30), config, steps=1) == ([0, 10], 60) or heaviest_step(
        sample(10, 30), config, steps=1
    ) == ([10, 0], 60)


def test_memory_is_that_of_the_heaviest_step(micro_model: Path, cache: Path) -> None:
    config = cell(micro_model)
    facts = count_work(config, cache, CPU)
    size = size_of(micro_model)
    assert facts.training_bytes < PROCESS_BYTES + facts.set_bytes + training_memory(size, config, CPU).total
    assert PROCESS_BYTES + size.parameters * 4 < facts.training_bytes <= facts.memory_bytes


def test_model_without_token_embedding_cannot_be_planned(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size_of.cache_clear()
    monkeypatch.setattr(room, "read_size", lambda folder: None)
    with pytest.raises(ModelError, match="vocab_size"):
        size_of(micro_model)


def test_a_survey_measures_the_machine_in_every_precision(micro_model: Path, cache: Path) -> None:
    cells = [cell(micro_model), dataclasses.replace(cell(micro_model, NONE), precision="bf16")]
    found = workload_of(cells, cache)
    assert found.matrix_rates.keys() == {"auto", "bf16"}
    assert min(found.matrix_rates.values()) > 1e8
    assert found.copy_rate > 1e8
    assert [facts.steps for facts in found.cells] == [10, 0]
    assert found.disk_faults == []


def test_model_files_are_read_once_for_all_cells(
    micro_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def counted(folder: Path) -> Any:
        asked.append(folder)
        return read_size(folder)

    monkeypatch.setattr(room, "read_size", counted)
    size_of.cache_clear()
    workload_of([cell(micro_model), cell(micro_model, NONE)], cache)
    assert asked == [micro_model]


def test_card_elsewhere_gives_work_by_kind_of_operator(micro_model: Path, cache: Path) -> None:
    config = cell(micro_model, micro_batch="auto", gradient_checkpointing="auto")
    found = workload_on_card([config], cache, "t4")
    (facts,) = found.cells
    assert (found.machine.type, found.machine.precision, found.gpu) == ("cuda", "fp16", "t4")
    assert found.machine.memory_bytes == 15360 * 2**20
    forecast = forecast_from_workload(facts, found, "auto")
    assert forecast.fits
    assert forecast.training_limit == "launches"
    assert forecast.utilization is not None
    assert 0 < forecast.utilization < 1
    assert min(forecast.train, forecast.validate, forecast.answer) > 0
    assert facts.model_flops <= sum(each.flops for each in facts.training)


def test_named_blocks_in_fp32_take_time_and_memory(micro_model: Path, cache: Path) -> None:
    usual = cell(micro_model)
    named = dataclasses.replace(usual, fp32_blocks=["mlp", "layers.0.self_attn"])
    found = workload_on_card([usual, named], cache, "t4")
    before, after = found.cells
    mlps, attention = 2 * 3 * 64 * 128, 2 * 64 * 64 + 2 * 64 * 32
    assert after.memory_bytes - before.memory_bytes == 2 * (mlps + attention)
    assert "fp32_blocks" not in {each.kind for each in before.training}
    parts = [forecast_from_workload(each, found, "auto").training_parts for each in (before, after)]
    assert parts[1].keys() - parts[0].keys() == {"fp32_blocks"}


def test_a_plan_refuses_blocks_that_the_model_lacks(micro_model: Path, cache: Path) -> None:
    named = dataclasses.replace(cell(micro_model), fp32_blocks=["mlp", "layers.99.mlp"])
    with pytest.raises(ModelError) as caught:
        workload_on_card([named], cache, "t4")
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("no-such-module", "fp32_blocks")


def test_large_model_does_not_fit_a_small_card(micro_model: Path, cache: Path) -> None:
    found = workload_on_card([cell(micro_model)], cache, "t4")
    small = dataclasses.replace(found, machine=dataclasses.replace(found.machine, memory_bytes=2**20))
    assert forecast_from_workload(small.cells[0], small, "auto").fits is False


def test_untrained_base_has_nothing_to_train_on_a_card(micro_model: Path, cache: Path) -> None:
    found = workload_on_card([cell(micro_model, NONE)], cache, "h200")
    forecast = forecast_from_workload(found.cells[0], found, "auto")
    assert (forecast.train, forecast.validate, forecast.training_limit, forecast.utilization) == (0, 0, None, None)
    assert forecast.answer > 0
