"""`export` by its real command line: variants that plain transformers and peft load, measured one by one."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.command_options import parse_options, split_options
from medqa_finetune.errors import NO_VALUE, MedQAError
from medqa_finetune.export import ExportOptions, export, pipeline_cell
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.train import train
from tests.commands import TINY, files_below, python, timed
from tests.conftest import REPOSITORY
from tests.faulty import only_fault
from tests.variants.runs import FULL, LORA, NONE, QLORA, write_micro_phi, write_run

IS_NAN = object()
NAMES = ("base", "quantized", "lora", "lora_quantized", "merged")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def run_export(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "medqa_finetune.export", *arguments, cwd=cwd, timeout=600)


def test_help_says_what_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in [*NAMES, "export.to=DIR", "pipeline=variants", "samples=N"]:
        assert name in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize(
    ("typed", "code", "key", "got"),
    [
        ([], "missing-key", None, NO_VALUE),
        (["run=x", "pipeline=variants"], "conflict", "pipeline", "variants"),
        (["pipeline=all"], "not-allowed", "pipeline", "all"),
        (["run=x", "export.dtype=int4"], "not-allowed", "export.dtype", "int4"),
        (["run=x", "export.quantization=int2"], "not-allowed", "export.quantization", "int2"),
        (["run=x", "export.max_samples=0"], "out-of-range", "export.max_samples", 0),
        (["pipeline=variants", "epochs=.nan"], "out-of-range", "epochs", IS_NAN),
        (["run=x", "export.to=  "], "empty", "export.to", "  "),
        (["run=x", "samples=3"], "conflict", "samples", 3),
        (["run=x", "to=models"], "unknown-key", "to", "models"),
        (["run=x", "-m"], "not-supported", "--multirun", NO_VALUE),
        (["run=x", "format=xml"], "not-allowed", "format", "xml"),
        (["pipeline=variants", "-m"], "not-supported", "--multirun", NO_VALUE),
        (["pipeline=variants", "samples=3", "data=50k"], "conflict", "samples", 3),
        (["pipeline=variants", "epochs=3", "train.epochs=2"], "conflict", "epochs", 3.0),
        (
            ["pipeline=variants", "profile=demo", "method=full"],
            "not-supported", "variants", ["lora", "lora_quantized"],
        ),
        (["run=no/such/folder"], "not-a-run", "run", "no/such/folder"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_key(typed: list[str], code: str, key: str | None, got: Any) -> None:
    with pytest.raises(MedQAError) as caught:
        export(typed)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, key)
    assert fault.got == got or (got is IS_NAN and str(fault.got) == "nan")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("export.max_samples=few", "wrong-type"),
        ("export.measured=true", "unknown-key"),
        ("export.run=y", "unknown-key"),
        ("variants=merged", "wrong-type"),
    ],
)
def test_a_key_that_is_unknown_or_holds_another_type_is_named_as_it_is_typed(typed: str, code: str) -> None:
    with pytest.raises(MedQAError) as caught:
        export(["run=x", typed])
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, typed.partition("=")[0])
    assert code != "unknown-key" or {"run", "export.to"} <= set(fault.allowed)


def test_what_is_allowed_is_listed_and_every_fault_comes_at_once() -> None:
    with pytest.raises(MedQAError) as caught:
        ExportOptions(run="x", format="xml", dtype="int4", samples=0)
    faults = caught.value.faults
    assert [(fault.code, fault.key, fault.allowed) for fault in faults] == [
        ("out-of-range", "samples", ()),
        ("not-allowed", "format", ("text", "json")),
        ("not-allowed", "export.dtype", ("auto", "fp32", "bf16", "fp16")),
        ("conflict", "samples", ()),
    ]
    with pytest.raises(MedQAError) as caught:
        export(["run=x", "to=models"])
    assert {"run", "variants", "export.to"} <= set(only_fault(caught).allowed)


def test_a_setting_that_a_pipeline_does_not_know_is_refused() -> None:
    with pytest.raises(MedQAError) as caught:
        export(["pipeline=variants", "profile=demo", "train.epoch=2"])
    assert "train.epoch" in str(caught.value)
    assert caught.value.exit_code == 2


def test_train_says_who_runs_pipelines() -> None:
    with pytest.raises(MedQAError) as caught:
        train(["pipeline=variants", "samples=200"])
    assert "python -m medqa_finetune.export" in str(caught.value)


def test_own_options_are_told_from_the_settings_of_a_run() -> None:
    own, rest = split_options(
        ExportOptions, ["pipeline=variants", "model=tiny", "samples=5", "export.to=x", "train.epochs=2"]
    )
    assert own == ["pipeline=variants", "samples=5", "export.to=x"]
    assert rest == ["model=tiny", "train.epochs=2"]
    assert parse_options(ExportOptions, own) == ExportOptions(pipeline="variants", samples=5, to="x")


def test_samples_count_pairs_whatever_a_profile_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cell = pipeline_cell(ExportOptions(pipeline="variants", samples=200, epochs=1.0), ["profile=demo"])
    assert (cell.config.train_size, cell.config.train.epochs) == (200, 1.0)
    assert cell.config.test_size == 200
    assert cell.run.path == Path("outputs/demo/lora_n200__train.epochs=1.0")
    assert "data.train_size=20000" in cell.overrides
    odd = pipeline_cell(ExportOptions(pipeline="variants", samples=7), ["profile=demo", "data.scale=0.3"])
    assert odd.config.train_size == 7


def test_help_answers_in_a_moment(tmp_path: Path) -> None:
    done, seconds = timed("-m", "medqa_finetune.export", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert seconds < 1.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, micro_model: Path) -> Path:
    """A folder with a base model and runs of several methods over it."""
    place = tmp_path_factory.mktemp("export")
    base = Path(shutil.copytree(micro_model, place / "base"))
    for method in (LORA, QLORA, FULL, NONE):
        write_run(place / "outputs" / f"{method.name}_20k", base, method)
    return place


@pytest.fixture(scope="module")
def exported(place: Path) -> dict[str, Any]:
    """What exporting the run over a 4-bit base printed."""
    done = run_export("run=outputs/qlora_20k", "format=json", cwd=place)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.mark.slow
def test_every_variant_is_measured_in_a_process_of_its_own(exported: dict[str, Any]) -> None:
    table = {row["variant"]: row for row in exported["variants"]}
    assert tuple(table) == NAMES
    for row in table.values():
        assert row["n"] == 4
        assert row["tokens_per_second"] > 0
        assert row["peak_rss_bytes"] > row["start_rss_bytes"] > 10**8
        assert all(row[score] is not None for score in ("rouge1", "rouge2", "rougeL", "bleu", "perplexity"))
    assert table["quantized"]["size_bytes"] < table["base"]["size_bytes"]
    assert table["lora"]["disk_bytes"] == table["lora"]["size_bytes"] + table["lora"]["needed_base_bytes"]
    assert table["base"]["perplexity"] != table["merged"]["perplexity"]


@pytest.mark.slow
def test_the_run_itself_stays_as_it_was(exported: dict[str, Any], place: Path) -> None:
    run = RunDir(place / "outputs" / "qlora_20k")
    record = run.read()
    assert record is not None
    assert run.stamps() == record.files


@pytest.mark.slow
def test_merging_on_the_dequantized_base_costs_next_to_nothing(exported: dict[str, Any]) -> None:
    table = {row["variant"]: row for row in exported["variants"]}
    assert abs(table["merged"]["perplexity_minus_lora"]) < 1e-4 * table["lora"]["perplexity"]
    assert abs(table["lora_quantized"]["perplexity_minus_lora"]) > 10 * abs(table["merged"]["perplexity_minus_lora"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_what_it_is_and_of_what(exported: dict[str, Any], place: Path, name: str) -> None:
    folder = place / "outputs" / "qlora_20k" / "export" / name
    content = json.loads((folder / "metadata.json").read_bytes())
    assert content["variant"] == name
    assert content["made_from"]["run"] == "qlora_20k"
    assert len(content["made_from"]["base_fingerprint"]) == 64
    assert set(content["files"]) == {path.name for path in folder.iterdir()} - {"metadata.json"}
    assert content["size_bytes"] == sum((folder / file).stat().st_size for file in content["files"])
    assert "tokenizer.json" in content["files"]
    assert any(file.endswith(".safetensors") for file in content["files"])
    assert not [file for file in content["files"] if file.endswith((".bin", ".pt", ".py"))]
    assert content["measured"]["scores"]["rougeL"]["signature"]
    assert (content["needs"] or {}).get("variant") == ("quantized" if name == "lora" else None)
    assert ("base" in content["differences"]) == (name != "base")


@pytest.mark.slow
def test_table_and_picture_lie_beside_them(exported: dict[str, Any], place: Path) -> None:
    folder = place / exported["folder"]
    with (folder / "variants.csv").open(encoding="utf-8", newline="") as file:
        assert tuple(row["variant"] for row in csv.DictReader(file)) == NAMES
    assert (folder / "variants.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*NAMES, "answers", "variants.csv", "variants.pdf", "variants.png", "variants.svg"]
    )


@pytest.mark.slow
def test_the_code_of_the_readme_loads_what_was_exported(exported: dict[str, Any], place: Path) -> None:
    found = re.search(r"<!-- load -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    done = python("-W", "error::UserWarning", "-c", found[1], cwd=place)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


CHECK = """
import sys, torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from peft import PeftModel
torch.set_num_threads(1)
ids = torch.tensor([[5, 60, 7, 8, 90]])
def said(model):
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                            bnb_4bit_compute_dtype=torch.float32)
in_four = AutoModelForCausalLM.from_pretrained("base", quantization_config=config, dtype=torch.float32)
models = {name: said(AutoModelForCausalLM.from_pretrained(f"{sys.argv[1]}/export/{name}"))
          for name in ("base", "quantized", "merged")}
untuned = said(in_four)
tuned = said(PeftModel.from_pretrained(in_four, f"{sys.argv[1]}/adapter"))
exported = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(f"{sys.argv[1]}/export/quantized"),
                                     f"{sys.argv[1]}/export/lora")
print((models["base"] - said(AutoModelForCausalLM.from_pretrained("base"))).abs().max().item())
print((models["quantized"] - untuned).abs().max().item())
print((models["merged"] - tuned).abs().max().item())
print((said(exported) - tuned).abs().max().item())
print((tuned - untuned).abs().max().item())
"""


@pytest.mark.slow
def test_plain_transformers_and_peft_compute_what_the_run_did(exported: dict[str, Any], place: Path) -> None:
    """Against the base quantized anew, with the run's own adapter; bitsandbytes' bf16 repacking on CPUs is kept out."""
    done = python("-c", CHECK, "outputs/qlora_20k", cwd=place)
    assert done.returncode == 0, done.stderr
    base, quantized, merged, lora, trained = map(float, done.stdout.splitlines())
    assert base == quantized == lora == 0.0
    assert merged < 1e-5
    assert trained > 0.01


@pytest.mark.slow
def test_a_second_export_leaves_finished_variants_alone(exported: dict[str, Any], place: Path) -> None:
    folder = place / "outputs" / "qlora_20k" / "export"
    before = {path: file for path, file in files_below(folder).items() if "/" in path}
    started = time.perf_counter()
    done = run_export("run=outputs/qlora_20k", cwd=place)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 10  # torch was not loaded once
    assert {path: file for path, file in files_below(folder).items() if "/" in path} == before
    assert "less the untuned model" in done.stdout


@pytest.mark.slow
def test_other_settings_are_refused_and_overwriting_moves_aside(exported: dict[str, Any], place: Path) -> None:
    run = place / "outputs" / "qlora_20k"
    copy = Path(shutil.copytree(run, place / "outputs" / "copy"))
    before = files_below(copy)
    asked = ("run=outputs/copy", "variants=[quantized]", "export.max_samples=2")
    done = run_export(*asked, cwd=place)
    assert done.returncode == 2
    assert "export.max_samples: None -> 2" in done.stderr
    assert files_below(copy) == before
    done = run_export(*asked, "overwrite=true", "format=json", cwd=place)
    assert done.returncode == 0, done.stderr
    aside = copy / "export" / "quantized.old-1"
    assert (aside / "model.safetensors").read_bytes() == (run / "export/quantized/model.safetensors").read_bytes()
    table = {row["variant"]: row for row in json.loads(done.stdout)["variants"]}
    assert (table["quantized"]["n"], table["base"]["n"]) == (2, 4)
    assert table["quantized"]["rougeL_minus_base"] is None  # other questions


@pytest.mark.slow
def test_lora_over_a_full_precision_base(place: Path) -> None:
    asked = ("run=outputs/lora_20k", "variants=[lora,lora_quantized]", "export.to=models", "export.measure=false")
    done = run_export(*asked, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Not measured" in done.stdout
    assert sorted(path.name for path in (place / "models").iterdir()) == ["lora", "lora_quantized", "variants.csv"]
    needs = json.loads((place / "models" / "lora" / "metadata.json").read_bytes())["needs"]
    assert needs["variant"] == "base"
    config = json.loads((place / "models" / "lora_quantized" / "config.json").read_bytes())
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "names"), [("full", ["base", "merged", "quantized"]), ("none", ["base", "quantized"])]
)
def test_methods_without_an_adapter(place: Path, method: str, names: list[str]) -> None:
    done = run_export(f"run=outputs/{method}_20k", "export.max_samples=1", cwd=place)
    assert done.returncode == 0, done.stderr
    folder = place / "outputs" / f"{method}_20k" / "export"
    assert sorted(path.parent.name for path in folder.glob("*/metadata.json")) == names
    if method == "full":
        from safetensors.torch import load_file

        own, trained = (
            load_file(path / "model.safetensors") for path in (folder / "merged", folder.parent / "adapter")
        )
        assert all(own[name].equal(trained[name]) for name in trained)


@pytest.mark.slow
def test_a_model_that_fails_ends_with_its_message_and_leaves_nothing_half(place: Path) -> None:
    run = Path(shutil.copytree(place / "outputs" / "lora_20k", place / "outputs" / "broken"))
    record = json.loads((run / "record.json").read_bytes())
    record["config"]["method"]["rank"] = 8
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    done = run_export("run=outputs/broken", "variants=[merged]", cwd=place)
    assert done.returncode == 2
    assert "lora_A.weight=[" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in (run / "export").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen", "phi"])
def test_one_command_trains_and_makes_the_four_variants(tmp_path: Path, micro_model: Path, family: str) -> None:
    model = micro_model if family == "qwen" else write_micro_phi(tmp_path / "phi", micro_model)
    typed = [
        "pipeline=variants", "samples=20", "epochs=1", "method=qlora",
        *(each for each in TINY if not each.startswith("train.max_steps")), f"model.path={model}",
    ]  # fmt: skip
    done = run_export(*typed, "format=json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [row["variant"] for row in content["variants"]] == list(NAMES[:4])
    run = RunDir((tmp_path / content["folder"]).parent)
    record = run.read()
    assert record is not None
    assert (record.status, record.data_manifest and record.data_manifest.train.n) == ("done", 20)
    assert record.train is not None
    assert record.train.epochs == 1.0
    before = files_below(run.path)
    again = run_export(*typed, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {k: v for k, v in files_below(run.path).items() if "variants." not in k} == {
        k: v for k, v in before.items() if "variants." not in k
    }


@pytest.mark.slow
def test_a_killed_export_leaves_no_process_and_nothing_half(place: Path) -> None:
    run = Path(shutil.copytree(place / "outputs" / "lora_20k", place / "outputs" / "killed"))
    code = "import sys; from medqa_finetune.export import main; sys.argv[1:] = ['run=outputs/killed']; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:  # fmt: skip
        while process.poll() is None and not list(run.glob("export/base/metadata.json")):
            time.sleep(0.01)
        process.kill()
    done = run_export("run=outputs/killed", "export.max_samples=1", "variants=[base,lora]", cwd=place)
    assert done.returncode == 0, done.stderr
    assert not list((run / "export").glob(".writing-*"))
