"""That training learns, keeps the best weights, stops on nonsense, and is the same however memory is saved."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LambdaLR

from medqa_finetune.config.schema import TrainConfig
from medqa_finetune.config.steps import total_steps, validation_steps
from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.token_sets import EncodedSet, Item
from medqa_finetune.errors import RunError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.training import computing
from medqa_finetune.training import fit as fit_module
from medqa_finetune.training import trainer as trainer_module
from medqa_finetune.training.batches import Collator, Step
from tests.faulty import only_fault
from tests.training.trial import PAIRS, Trial, load, logits, make_config, train

IDS = torch.tensor([[5, 60, 7, 8, 90]])
# The rate rises all the time: the first steps help, and the last is so large that it ruins the model.
LATE_RUIN: dict[str, Any] = {"learning_rate": 1 / 30, "warmup_ratio": 0.99, "max_steps": 4, "validations": 4}
# The first step turns every weight into nonsense.
NONSENSE: dict[str, Any] = {"learning_rate": 1e30, "max_steps": 4, "max_gradient_norm": 1e30}


def mean_loss(model: Any, encoded: EncodedSet) -> float:
    """The mean over answer tokens, from whole logits, one example at a time."""
    total, tokens = 0.0, 0
    for item in encoded:
        predicted = logits(model, torch.tensor([item["input_ids"]]))[0, :-1]
        targets = torch.tensor(item["labels"][1:])
        total += torch.nn.functional.cross_entropy(predicted, targets, reduction="sum", ignore_index=IGNORED).item()
        tokens += int((targets != IGNORED).sum())
    return total / tokens


def base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def with_adapter(folder: Path, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(base(folder), adapter)


@pytest.fixture(scope="module")
def learned(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return train(micro_model, tmp_path_factory.mktemp("learned"), make_config(epochs=2))


@pytest.fixture(scope="module")
def ruined(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return train(micro_model, tmp_path_factory.mktemp("ruined"), make_config(**LATE_RUIN))


@pytest.mark.parametrize(
    ("examples", "batch", "micro", "epochs", "max_steps", "steps"),
    [
        (48, 8, 8, 1, None, 6),
        (49, 8, 4, 1, None, 7),  # 13 micro-batches, two to a step
        (48, 10, 5, 2, None, 10),  # the last step of an epoch has 8 examples
        (3, 16, 4, 1, None, 1),
        (100, 16, 4, 0.5, None, 4),  # 7 steps an epoch, halved and rounded up
        (100, 16, 4, 3, 5, 5),
        (48, 16, 4, 2, 100, 6),
        (20_000, 16, 4, 1, None, 1250),
    ],
)
def test_steps_are_epochs_rounded_up_to_whole_batches(
    examples: int, batch: int, micro: int, epochs: float, max_steps: int | None, steps: int
) -> None:
    settings = TrainConfig(batch_size=batch, micro_batch=micro, epochs=epochs, max_steps=max_steps)
    assert total_steps(examples, settings) == steps


@pytest.mark.parametrize(
    ("steps", "validations", "after"),
    [(1000, 5, {200, 400, 600, 800, 1000}), (9, 5, {2, 4, 6, 8, 9}), (3, 5, {1, 2, 3}), (7, 1, {7})],
)
def test_validations_are_as_many_as_asked_for(steps: int, validations: int, after: set[int]) -> None:
    assert validation_steps(steps, TrainConfig(validations=validations)) == after


@pytest.mark.parametrize(
    ("batch", "micro"),
    [(10, 5), (12, 1), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((7, 7), (32, 4), (64, 16)))],
)
def test_an_epoch_sees_every_pair_once(micro_model: Path, tmp_path: Path, batch: int, micro: int) -> None:
    record = train(micro_model, tmp_path, make_config(batch_size=batch, micro_batch=micro)).record
    assert (record.samples, record.epochs) == (len(PAIRS), 1.0)
    assert record.steps == -(-len(PAIRS) // batch)


def test_fractions_of_an_epoch_are_trained(micro_model: Path, tmp_path: Path) -> None:
    record = train(micro_model, tmp_path, make_config(epochs=0.5)).record
    assert (record.steps, record.samples, record.epochs) == (3, 24, 0.5)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param({}, id="lora"),
        pytest.param({"quantization": "nf4", "double_quantization": True}, id="nf4"),
        pytest.param({"dropout": 0.1}, id="dropout", marks=pytest.mark.slow),
        pytest.param({"quantization": "int8"}, id="int8", marks=pytest.mark.slow),
        pytest.param({"trains": "all"}, id="full", marks=pytest.mark.slow),
    ],
)
def test_training_lowers_the_loss(micro_model: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    config = make_config(method, epochs=2)
    loaded, sets = load(micro_model, config)
    before = mean_loss(loaded.model, sets.validation)
    trial = train(micro_model, tmp_path, config)
    assert mean_loss(trial.loaded.model, sets.validation) < before - 0.2


def test_a_single_step_changes_the_model(micro_model: Path, tmp_path: Path) -> None:
    trial = train(micro_model, tmp_path, make_config(max_steps=1))
    assert trial.column("learning_rate") == [5e-3]
    assert (trial.logits(IDS) - logits(base(micro_model), IDS)).abs().max() > 1e-3


def test_base_weights_stay_as_they_were(learned: Trial, micro_model: Path) -> None:
    model: Any = learned.loaded.model
    after = {name.replace(".base_layer", ""): weight for name, weight in model.get_base_model().state_dict().items()}
    for name, weight in base(micro_model).state_dict().items():
        assert torch.equal(after[name], weight)


@pytest.mark.parametrize("name", ["learned", "ruined"])
def test_adapter_folder_is_the_model_that_training_ends_with(
    request: pytest.FixtureRequest, micro_model: Path, name: str
) -> None:
    trial = request.getfixturevalue(name)
    ours, plain = trial.logits(IDS), logits(with_adapter(micro_model, trial.run.adapter_path), IDS)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    assert (ours - logits(base(micro_model), IDS)).abs().max() > 1e-2


def test_adapter_folder_holds_its_tokenizer(learned: Trial) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(learned.run.adapter_path, local_files_only=True)
    assert tokenizer.chat_template == learned.loaded.tokenizer.chat_template
    assert tokenizer("感冒")["input_ids"] == learned.loaded.tokenizer("感冒")["input_ids"]


def test_fully_trained_folder_is_a_whole_model(micro_model: Path, tmp_path: Path) -> None:
    trial = train(micro_model, tmp_path, make_config({"name": "full", "trains": "all"}))
    torch.testing.assert_close(logits(base(trial.run.adapter_path), IDS), trial.logits(IDS))


def test_weights_of_the_lowest_validation_loss_are_kept(ruined: Trial) -> None:
    losses = {row["step"]: row["eval_loss"] for row in ruined.rows if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert 1 < best < 4
    assert losses[4] > losses[best] + 0.1
    assert (ruined.record.best_step, ruined.record.best_validation_loss) == (best, losses[best])
    assert mean_loss(ruined.loaded.model, ruined.sets.validation) == pytest.approx(losses[best], abs=1e-4)


def test_validation_loss_is_a_mean_over_answer_tokens(micro_model: Path, tmp_path: Path) -> None:
    # The examples differ in length, so that a mean over batches of 3, 3 and 1 would be another number.
    trial = train(micro_model, tmp_path, make_config(max_steps=1, batch_size=3, micro_batch=3))
    assert trial.column("eval_loss") == [pytest.approx(mean_loss(trial.loaded.model, trial.sets.validation), abs=1e-5)]


def test_broken_weights_stop_the_first_step(micro_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(micro_model, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError) as caught:
        train(folder, tmp_path, make_config())
    check_not_finite(caught, "loss", "step 1;")


def check_not_finite(caught: "pytest.ExceptionInfo[RunError]", key: str, *parts: str) -> None:
    fault = only_fault(caught)
    assert (fault.code, fault.key, str(fault.got) == "nan") == ("not-finite", key, True)
    for part in parts:
        assert part in fault.problem
    assert "train.learning_rate" in fault.hint
    assert "precision=bf16" in fault.hint


def test_training_loss_that_is_no_number_stops_the_run(micro_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(micro_model, tmp_path, make_config(**NONSENSE, validations=1))
    check_not_finite(caught, "loss", "step 2;")
    assert "1e+30" in only_fault(caught).hint


def test_validation_loss_that_is_no_number_says_what_is_kept(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first step changes nothing, so that there is something to keep.
    late = lambda name, optimizer, *steps: LambdaLR(optimizer, lambda step: float(step > 0))  # noqa: E731
    monkeypatch.setattr(trainer_module, "schedule_of", late)
    with pytest.raises(RunError) as caught:
        train(micro_model, tmp_path, make_config(**NONSENSE, validations=4))
    kept = RunDir(tmp_path / "run").checkpoints_path / "step-1"
    check_not_finite(caught, "eval_loss", "step 2;", str(kept))
    torch.testing.assert_close(logits(with_adapter(micro_model, kept), IDS), logits(base(micro_model), IDS))


def test_loss_that_is_no_number_is_written_nowhere(micro_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        train(micro_model, tmp_path, make_config(**NONSENSE))
    assert "NaN" not in RunDir(tmp_path / "run").metrics_path.read_text()


@pytest.mark.parametrize(
    "change",
    [{"micro_batch": 2}, {"micro_batch": 1}, {"gradient_checkpointing": False}],
    ids=["micro_batch_2", "micro_batch_1", "no_checkpointing"],
)
def test_saving_memory_changes_no_loss(
    learned: Trial, micro_model: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    other = train(micro_model, tmp_path, make_config(epochs=2, **change))
    for name in ("loss", "eval_loss", "grad_norm"):
        assert other.column(name) == pytest.approx(learned.column(name), abs=1e-4)


def test_every_method_sees_the_same_packs_in_the_same_order(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[list[int]]] = []

    class Watching(Collator):
        def __call__(self, items: Sequence[Item]) -> Step:
            step = super().__call__(items)
            seen[-1] += [batch["input_ids"][0].tolist() for batch in step["batches"]]
            return step

    monkeypatch.setattr(fit_module, "Collator", Watching)
    for name, method in {"lora": {}, "nf4": {"quantization": "nf4"}, "full": {"trains": "all"}}.items():
        seen.append([])
        train(micro_model, tmp_path / name, make_config(method, micro_batch=2, max_length=48, max_steps=6))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) > 6 + 1  # several packs to a step, beside those of the validation


def test_same_seed_gives_the_same_losses(micro_model: Path, tmp_path: Path) -> None:
    config = make_config({"dropout": 0.2}, max_steps=4)
    first, second = (train(micro_model, tmp_path / name, config) for name in ("first", "second"))
    assert first.column("loss") == second.column("loss")
    assert first.column("eval_loss") == second.column("eval_loss")


def test_other_seed_gives_another_order(learned: Trial, micro_model: Path, tmp_path: Path) -> None:
    other = train(micro_model, tmp_path, make_config(seed=1, max_steps=1))
    # A new adapter adds nothing, so the first losses differ by the examples of the first batch alone.
    assert abs(other.column("loss")[0] - learned.column("loss")[0]) > 1e-4


def test_a_second_training_replaces_the_adapter_without_a_trace(micro_model: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        second = train(micro_model, tmp_path, make_config(seed=seed, max_steps=2))
    plain = with_adapter(micro_model, second.run.adapter_path)
    torch.testing.assert_close(logits(plain, IDS), second.logits(IDS))
    assert [path.name for path in second.run.path.iterdir() if path.name.startswith(".")] == []


def test_kernels_compute_while_it_trains_and_no_longer(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    @contextmanager
    def kernels(name: str, model: Any) -> Iterator[None]:
        hook = model.register_forward_hook(lambda *_: seen.append(name))
        yield
        hook.remove()

    monkeypatch.setattr(computing, "training_kernels", kernels)
    trial = train(micro_model, tmp_path, make_config(kernels="liger", max_steps=2, validations=1))
    # Three passes to try packing, a pack for each of two steps, and one of the validation.
    assert seen == ["liger"] * 6
    trial.logits(IDS)
    assert len(seen) == 6
