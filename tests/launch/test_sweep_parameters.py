"""`hydra.sweeper.params` typed on the command line, in every form."""

import pytest

from medqa_finetune.config.flags import split_flags
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.sweep_parameters import default_sweeps, with_parameters_as_sweeps
from tests.faulty import only_fault


def meant(*arguments: str) -> list[str]:
    return with_parameters_as_sweeps(split_flags(arguments)).overrides


@pytest.mark.parametrize(
    ("typed", "sweeps"),
    [
        ("+hydra.sweeper.params.seed=1,2", ["seed=1,2"]),
        ("+hydra.sweeper.params.seed='1,2'", ["seed=1,2"]),
        ("hydra.sweeper.params={seed:'1,2',data:'20k,50k'}", ["seed=1,2", "data=20k,50k"]),
        ("++hydra.sweeper.params={train:{epochs:'1,2'}}", ["train.epochs=1,2"]),
        ("+hydra.sweeper.params.seed=range(3)", ["seed=range(3)"]),
        ("+hydra.sweeper.params.overwrite=true", ["overwrite=true"]),
        ("~hydra.sweeper.params", ["hydra.sweeper.params=null"]),
        ("hydra.sweeper.params=null", ["hydra.sweeper.params=null"]),
        ("hydra.sweeper={params:{seed:'1,2'}}", ["seed=1,2"]),
        ("hydra/sweeper=basic", ["hydra/sweeper=matrix"]),
        (
            "hydra.launcher={retries:2,max_parallel:null}",
            ["hydra.launcher.retries=2", "hydra.launcher.max_parallel=null"],
        ),
    ],
)
def test_parameters_are_sweeps_over_their_keys(typed: str, sweeps: list[str]) -> None:
    assert meant("method=lora", typed) == ["method=lora", *sweeps]


def test_sweep_over_same_key_comes_first() -> None:
    assert meant("+hydra.sweeper.params={seed:'1,2',data:'20k'}", "seed=3") == ["data=20k", "seed=3"]


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("+hydra.sweeper.params=seed", "hydra.sweeper.params"),
        ("+hydra.sweeper.params=[1,2]", "hydra.sweeper.params"),
        ("+hydra.sweeper.params.seed=[1,2]", "hydra.sweeper.params.seed"),
        ("+hydra.sweeper.params.data=null", "hydra.sweeper.params.data"),
        ("~hydra.sweeper.params.seed", "hydra.sweeper.params.seed"),
        ("hydra.sweeper={params: [seed=1,2]}", "hydra.sweeper.params"),
        ("hydra.sweeper={params:[seed=1,2]}", "hydra.sweeper.params"),
    ],
)
def test_other_parameters_are_refused(typed: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        meant(typed)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("wrong-type", key)
    assert "-m " in fault.hint


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("+hydra.sweeper.params=[seed=1,2]", "-m seed=1,2"),
        ("+hydra.sweeper.params=seed=1,2", "-m seed=1,2"),
        ("+hydra.sweeper.params={seed:1,2}", "-m seed=1,2"),
        ("+hydra.sweeper.params=[{seed: '1,2'},{method: lora}]", "-m seed=1,2 method=lora"),
        ("+hydra.sweeper.params.seed=[1,2]", "-m seed=1,2"),
        ("+hydra.sweeper.params={1:2}", "-m seed=1,2"),
    ],
)
def test_refused_sweep_is_shown_as_it_is_typed(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_parameters_as_sweeps(split_flags([typed]))
    assert only_fault(caught).hint.endswith(meant)


def test_space_of_a_preset_takes_sweeps() -> None:
    typed = "+hydra.sweeper.space.method.rank=4,8"
    assert meant("hydra/sweeper=rank", typed) == ["hydra/sweeper=rank", "method.rank=4,8"]
    with pytest.raises(ConfigError) as caught:
        meant(typed)
    assert only_fault(caught).code == "unknown-key"


def test_typed_size_replaces_sizes_of_a_profile() -> None:
    matrix = {"method": "none,lora", "data": "20k,50k"}
    assert default_sweeps(matrix, ["data.train_size=300,800"]) == ["method=none,lora"]
    assert default_sweeps(matrix, ["train.epochs=1"]) == ["method=none,lora", "data=20k,50k"]
