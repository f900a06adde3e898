"""What a plan says of `auto`, and why."""

import dataclasses

from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.model.auto_matrix import Resolved
from medqa_finetune.planning.batches import Batches, batches_of, describe_batches
from tests.config.builders import VALID, changed

AUTO: Config = changed(VALID, train__micro_batch="auto", train__gradient_checkpointing="auto")
CHOSEN = changed(VALID, train__micro_batch=16, train__gradient_checkpointing=False).train


def test_batches_of_cells_say_who_decided() -> None:
    retrieval, none = (MethodConfig(name=name, trains=name) for name in ("lookup", "nothing"))
    cells = [changed(AUTO, method=retrieval), changed(AUTO, method=none), AUTO, VALID, AUTO]
    # Those that load a model: all but the first.
    resolved = [Resolved(AUTO.train), Resolved(CHOSEN, 3), Resolved(VALID.train), Resolved(CHOSEN, taken_from="x")]
    found = batches_of(cells, resolved, list("abcde"))
    assert found == [
        Batches(), Batches(), Batches(16, False, decided_by="e"), Batches(4, True), Batches(16, False, taken_from="x"),
    ]  # fmt: skip


def test_every_choice_is_one_line() -> None:
    made = [Batches(16, False, decided_by="b"), Batches(16, False, decided_by="b"), Batches(4, True), Batches(),
            Batches(1, True, taken_from="old")]  # fmt: skip
    rows = [{"name": name, "batches": dataclasses.asdict(each)} for name, each in zip("abcde", made, strict=True)]
    lines = describe_batches(rows)
    assert len(lines) == 2
    assert "train.micro_batch=16 train.gradient_checkpointing=false for a, b" in lines[0]
    assert "old" in lines[1]
    assert describe_batches(rows[2:4]) == []


def test_a_choice_that_does_not_fit_is_not_called_fastest() -> None:
    batches = dataclasses.asdict(Batches(1, True, decided_by="full_20k"))
    (small,) = describe_batches([{"name": "full_20k", "batches": batches, "fits": False}])
    (large,) = describe_batches([{"name": "full_20k", "batches": batches, "fits": True}])
    assert "fastest" in large
    assert "fastest" not in small
