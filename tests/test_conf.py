"""Every YAML file in `conf/` is found by listing the folder, and composed by the real entry."""

import ast
import io
import itertools
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from medqa_finetune.config.compose import to_config
from medqa_finetune.config.explain import SECTIONS
from medqa_finetune.config.groups import conf_folder, option_names
from medqa_finetune.config.schema import Config
from medqa_finetune.train import describe_groups
from tests.config.builders import compose

PACKAGE = Path(__file__).parents[1] / "medqa_finetune"
FILES = sorted(conf_folder().rglob("*.yaml"))
GROUPS = sorted({path.parent.name for path in FILES if path.parent != conf_folder()})
# What a choice leaves for the user to give.
REQUIRED = {"model=local": ["model.path=models/mine"]}


def choices() -> list[str]:
    return [f"{group}={name}" for group in GROUPS for name in option_names(group)]


def required(choice: str) -> list[str]:
    group, _, name = choice.partition("=")
    if group == "corpus" and OmegaConf.load(conf_folder() / group / f"{name}.yaml").source == "file":
        return ["corpus.path=pairs.jsonl"]
    return REQUIRED.get(choice, [])


@cache
def config_of(*overrides: str) -> Config:
    return to_config(compose(*overrides))


def test_every_group_is_a_section_of_the_schema() -> None:
    assert set(GROUPS) - {"profile", "experiment", "hydra/sweeper", "sweeper"} == set(SECTIONS)


@pytest.mark.parametrize("choice", choices())
def test_every_choice_of_every_group_composes(choice: str) -> None:
    config = config_of(choice, *required(choice))
    group, _, name = choice.partition("=")
    if group in ("method", "data", "corpus", "model", "tracker"):
        assert getattr(config, group).name == name


def pairs(first: str, second: str) -> list[Any]:
    """Every choice of one group with every one of another: quick tests see each choice, the slow ones all pairs."""
    names = option_names(first), option_names(second)
    quick = {tuple(each[number % len(each)] for each in names) for number in range(max(map(len, names)))}
    return [
        pytest.param(*pair, marks=[] if pair in quick else [pytest.mark.slow]) for pair in itertools.product(*names)
    ]


@pytest.mark.parametrize(("method", "data"), pairs("method", "data"))
def test_every_method_composes_with_every_size(method: str, data: str) -> None:
    config = config_of(f"method={method}", f"data={data}")
    assert (config.method.name, config.data.name) == (method, data)


@pytest.mark.parametrize(("profile", "method"), pairs("profile", "method"))
def test_every_profile_composes_with_every_method(profile: str, method: str) -> None:
    assert config_of(f"profile={profile}", f"method={method}").method.name == method


@pytest.mark.parametrize("choice", [choice for choice in choices() if required(choice)])
def test_a_choice_that_needs_a_value_is_refused_without_it(choice: str) -> None:
    with pytest.raises(Exception, match="missing"):
        config_of(choice)


def test_every_file_begins_with_a_line_for_the_help() -> None:
    help_text = describe_groups([conf_folder()])
    for path in FILES:
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        described = [comment for comment in comments if not comment.startswith("@")]
        assert described, path
        assert len(described[0]) > 10, path
        assert path.parent == conf_folder() or f"{path.stem:<32}{described[0]}" in help_text, path


def test_no_file_names_code_to_run() -> None:
    assert [path for path in FILES if "_target_" in path.read_text(encoding="utf-8")] == []


SIZE = re.compile(r"(?<!\w)(?:20|50|100)(?:[_,]?000|k)(?!\w)")
# What looks like a size of the experiments and is none, or is an example of what to type.
NO_SIZES = {
    "train.py": {"20k", "50k", "100k"},  # the usage text
    "data/prepare.py": {"20k"},  # advice
    "data/notation.py": {"100_000"},  # characters of a list
}


def sizes_in(path: Path) -> set[str]:
    """Return what looks like a size in the code of a module: numbers, and texts other than docstrings."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(scope.body[0].value) for scope in scopes if scope.body and isinstance(scope.body[0], ast.Expr)}
    texts = [
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]  # fmt: skip
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts += [token.string for token in tokens if token.type == tokenize.NUMBER]
    return {found for text in texts for found in SIZE.findall(text)}


def test_a_size_in_code_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""A docstring may say 20k."""\nN = 50_000\nNAME = f"data={N}, 100k"\nOTHER = 120000\n')
    assert sizes_in(module) == {"50_000", "100k"}


def test_the_sizes_of_the_experiments_stand_in_conf_alone() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): sizes_in(path) for path in PACKAGE.rglob("*.py")}
    assert {name: sizes for name, sizes in found.items() if not sizes <= NO_SIZES.get(name, set())} == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.repository", "Qwen/Qwen2.5-3B-Instruct"),
        ("corpus.repository", "FreedomIntelligence/Huatuo26M-Lite"),
        ("method.trains", "adapter"),
        ("method.rank", 16),
        ("method.alpha", 32),
        ("method.dropout", 0.05),
        ("method.target_modules", "all_linear"),
        ("method.quantization", "none"),
        ("method.optimizer", "adamw_torch_fused"),
        ("data.train_size", 20000),
        ("train.scheduler", "cosine"),
        ("train.max_length", 1024),
        ("seed", 0),
    ],
)
def test_the_defaults_of_the_project_are_pinned(key: str, value: Any) -> None:
    assert OmegaConf.select(OmegaConf.structured(config_of()), key) == value


def test_the_learning_rate_warms_up() -> None:
    assert 0 < config_of().train.warmup_ratio < 0.2


def test_qlora_is_lora_over_a_4_bit_base() -> None:
    lora, qlora = (OmegaConf.to_container(OmegaConf.structured(config_of(f"method={name}").method))
                   for name in ("lora", "qlora"))  # fmt: skip
    assert isinstance(lora, dict)
    assert isinstance(qlora, dict)
    assert {key: qlora[key] for key in qlora if qlora[key] != lora[key]} == {
        "name": "qlora", "quantization": "nf4", "double_quantization": True,
    }  # fmt: skip


def test_the_six_sizes_and_methods_differ_in_nothing_else() -> None:
    small, large = config_of("data=20k"), config_of("data=100k")
    assert (small.data.train_size, large.data.train_size) == (20000, 100000)
    assert small.train == large.train
    assert (small.data.validation_size, small.data.test_size) == (large.data.validation_size, large.data.test_size)


def test_the_demo_needs_nothing_that_does_not_ship() -> None:
    config = config_of("profile=demo")
    assert (config.corpus.source, config.model.path, config.study) == ("embedded", "embedded:tiny", "demo")
    assert config.train_size == 200


def test_the_demo_trains_the_same_on_every_machine() -> None:
    train, usual = config_of("profile=demo").train, config_of("model=tiny", "corpus=embedded").train
    assert (train.micro_batch, train.gradient_checkpointing) == (8, False)
    assert (usual.micro_batch, usual.gradient_checkpointing) == ("auto", "auto")


def test_the_demo_sweeps_both_baselines_and_the_six_cells() -> None:
    params = compose("profile=demo").hydra.sweeper.params
    assert params == {"method": "none,retrieval,lora,qlora", "data": "20k,50k,100k"}
