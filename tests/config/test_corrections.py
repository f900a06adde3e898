"""Mistyped arguments: one fault with the whole corrected command."""

from pathlib import Path

import pytest

from medqa_finetune.config.command_options import parse_options
from medqa_finetune.config.composition_line import composition_words, read_composition, with_command
from medqa_finetune.config.corrections import Repair, is_swept
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.evaluate import EvaluateOptions
from medqa_finetune.export import ExportOptions
from medqa_finetune.plan import PlanOptions
from medqa_finetune.summarize import SummarizeOptions
from tests.faulty import only_fault


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--method lora", "method=lora"),
        ("--seed=1", "seed=1"),
        ("--learning-rate 1e-4", "train.learning_rate=1e-4"),
        ("--overwrite method=lora", "overwrite=true method=lora"),
        ("--method lora qlora", "-m method=lora,qlora"),
        ("--evaluate.metrics rouge bleu", "evaluate.metrics=[rouge,bleu]"),
        ("--multi-run method=lora,qlora", "--multirun method=lora,qlora"),
        ("-method lora --config-dir .", "method=lora --config-dir ."),
        ("-m method=lora, qlora", "-m method=lora,qlora"),
        ("-m method=lora ,qlora", "-m method=lora,qlora"),
        ("method = lora", "method=lora"),
        ("method lora", "method=lora"),
        ("method：lora", "method=lora"),
        ("method＝lora", "method=lora"),
        ("data=20k，50k", "-m data=20k,50k"),
        ("data=20k 50k", "-m data=20k,50k"),
        ("data=20k,,50k", "-m data=20k,50k"),
        ("seed=1 2 3", "-m seed=1,2,3"),
        ("—method lora", "method=lora"),
        ("–m method=lora,qlora", "-m method=lora,qlora"),
        ("qlora", "method=qlora"),
        ("--qlora", "method=qlora"),
        ("evaluate.metrics=[rouge, bleu] seed=1", "evaluate.metrics=[rouge,bleu] seed=1"),
        ("study=my run", "study=my run"),
        ("--metod lora", "method=lora"),
        ("--lr 1e-4", "train.learning_rate=1e-4"),
        ("--epoch 3", "train.epochs=3"),
        ("-m, method=lora,qlora", "-m method=lora,qlora"),
        ("-mmethod=lora,qlora", "-m method=lora,qlora"),
        ("-M method=lora,qlora", "-m method=lora,qlora"),
        ("--multi method=lora,qlora", "--multirun method=lora,qlora"),
        ("-- method=lora", "method=lora"),
        ("--verbose", "hydra.verbose=true"),
        ("--hydra.verbose=true", "hydra.verbose=true"),
        ("--configname config", "--config-name=config"),
        ("--config ./mine.yaml", "--config-dir . --config-name mine"),
        ("--infos", "--info"),
        ("--cfg job lora", "--cfg job method=lora"),
    ],
)  # fmt: skip
def test_the_whole_command_is_corrected(typed: str, meant: str) -> None:
    arguments = typed.split(" ")
    repair = Repair(arguments, composition_words(arguments))
    assert repair.fault is not None
    assert repair.fault.code == "mistyped"
    assert " ".join(repair.arguments) == meant
    assert read_composition(repair.arguments)


@pytest.mark.parametrize(
    "typed",
    ["", "-m method=lora,qlora", "study=", "outputs=a，b", "+experiment=x seed=1", "--info seed=1",
     "corpus.path=a,b,", "seed=1 --cfg=job", "study= seed=1"],
)  # fmt: skip
def test_what_hydra_reads_is_left_alone(typed: str) -> None:
    arguments = typed.split()
    assert read_composition(arguments).overrides == [each for each in arguments if not each.startswith("-")]


@pytest.mark.parametrize(
    ("typed", "code", "got"),
    [("--foo=1", "unknown-flag", "--foo=1"), ("-x", "unknown-flag", "-x"), ("none", "not-key-value", "none"),
     ("loar", "not-key-value", "loar"), ("method", "not-key-value", "method")],
)  # fmt: skip
def test_what_cannot_be_corrected_is_named(typed: str, code: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_composition([typed])
    fault = only_fault(caught)
    assert (fault.code, fault.got) == (code, got)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("--dry-run", "medqa_finetune.plan seed=1"), ("--batch_size", "train.batch_size=VALUE or evaluate.batch_size")],
)
def test_flags_of_other_programs_lead_to_ours(typed: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_composition(["seed=1", typed])
    assert (only_fault(caught).code, hint in only_fault(caught).hint) == ("unknown-flag", True)


def test_flag_of_a_matrix_is_for_train() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(EvaluateOptions, ["-m", "run=x"])
    assert "medqa_finetune.train" in only_fault(caught).hint


def test_a_file_of_pairs_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "问答.csv"
    path.touch()
    arguments = [str(path), "seed=1"]
    assert Repair(arguments, composition_words(arguments)).arguments == ["corpus=csv", f"corpus.path={path}", "seed=1"]


def test_a_run_whose_name_has_settings_is_its_configuration(tmp_path: Path) -> None:
    run = tmp_path / "lora_n100__train.epochs=3.0"
    run.mkdir()
    for name in ("config.yaml", "record.json"):
        (run / name).write_text("{}", encoding="utf-8")
    for typed in (run, run / "config.yaml"):
        with pytest.raises(ConfigError) as caught:
            read_composition([str(typed)])
        assert f"--config-dir {run} --config-name config" in only_fault(caught).hint.replace("'", "")


def test_other_commands_correct_their_options(tmp_path: Path) -> None:
    for schema, typed, meant in (
        (EvaluateOptions, ["--run", "x"], "run=x"),
        (EvaluateOptions, [str(tmp_path)], f"run={tmp_path}"),
        (SummarizeOptions, ["--price-per-hour", "2"], "price_per_hour=2"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_options(schema, typed)
        fault = only_fault(caught)
        assert fault.code == "mistyped"
        assert meant in fault.hint
    for own, typed, meant in ((PlanOptions, ["--gpu", "t4"], "gpu=t4"), (ExportOptions, ["--run=x"], "run=x")):
        with pytest.raises(ConfigError) as caught:
            read_composition(typed, own)
        fault = only_fault(caught)
        assert meant in fault.hint


def test_several_values_name_the_command_that_takes_them() -> None:
    fault = Fault("several-values", "must be one value", key="data", got="20k,50k")
    assert "-m data=20k,50k`" in with_command(fault, ["data=20k,50k"]).hint
    listed = fault.but(key="evaluate.metrics", got="rouge,bleu")
    assert "'evaluate.metrics=[rouge,bleu]'`" in with_command(listed, ["evaluate.metrics=rouge,bleu"]).hint


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a,b", True), ("range(1,4)", True), ("a", False), ("[a,b]", False), ("'a,b'", False), ("{a:1,b:2}", False),
     ("[a,b],[c]", True), ("interval(1,2)", False)],
)  # fmt: skip
def test_several_values_are_told_from_one(value: str, expected: bool) -> None:
    assert is_swept(value) is expected
