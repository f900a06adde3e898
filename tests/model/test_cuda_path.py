"""The GPU's path without a GPU: steps of Qwen2.5-3B's true widths, two layers, as fake tensors on "cuda"."""

import dataclasses
from collections import Counter
from functools import cache
from typing import Any

import pytest

from medqa_finetune.architecture.size import HEAD, ModelSize, layer_number
from medqa_finetune.config.schema import Config
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.estimate import Machine, Memory, training_memory
from medqa_finetune.model.roofline import STEP_BYTES
from scripts.fake_cuda.walk import Walked, lack, walk
from tests.config.builders import VALID, changed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(lack() is not None, reason=str(lack()))]

LAYERS, VOCABULARY = 2, 2048
# As conf/method has them.
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "optimizer": "adamw_torch_fused"},
    "qlora": {"name": "qlora", "quantization": "nf4", "double_quantization": True, "optimizer": "adamw_torch_fused"},
    "full": {"name": "full", "trains": "all", "optimizer": "adamw_torch_fused"},
    "none": {"name": "none", "trains": "nothing"},
}
HOPPER, TURING = {"capability": [9, 0], "precision": "bf16"}, {"capability": [7, 5], "precision": "fp16"}
# A whole training, of one layer.
LOOP: dict[str, Any] = {"step": "loop", "layers": 1}
LENGTHS = [300, 290, 280, 100]
ENOUGH = [1024] * 4
STEPS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", **HOPPER, "lengths": LENGTHS},
    "qlora": {"method": "qlora", **HOPPER, "lengths": LENGTHS},
    "full": {"method": "full", **HOPPER, "lengths": LENGTHS},
    "lora on a T4": {"method": "lora", **TURING, "lengths": LENGTHS},
    "full on a T4": {"method": "full", **TURING, "lengths": LENGTHS},
    "an MLP in fp32": {"method": "lora", **TURING, "lengths": LENGTHS, "fp32_blocks": ["model.layers.1.mlp"]},
    "an MLP of qlora in fp32": {"method": "qlora", **TURING, "lengths": LENGTHS, "fp32_blocks": ["model.layers.1.mlp"]},
    "large lora": {"method": "lora", **HOPPER, "lengths": ENOUGH},
    "large lora, nothing again": {"method": "lora", **HOPPER, "lengths": ENOUGH, "checkpointing": False},
    "large qlora": {"method": "qlora", **HOPPER, "lengths": ENOUGH},
    "large lora on a T4": {"method": "lora", **TURING, "lengths": ENOUGH},
    "all of lora": {"method": "lora", **HOPPER, "lengths": LENGTHS, **LOOP},
    "all of qlora on a T4": {"method": "qlora", **TURING, "lengths": LENGTHS, **LOOP},
    "all of full": {"method": "full", **HOPPER, "lengths": ENOUGH, **LOOP},
    "all of full, nothing again": {
        "method": "full",
        **HOPPER,
        "lengths": ENOUGH,
        **LOOP,
        "checkpointing": False,
    },
    "answers": {"method": "lora", **HOPPER, "lengths": [40, 30], "step": "decoding"},
    "replayed answers": {"method": "lora", **HOPPER, "lengths": [40, 30], "step": "replayed"},
    "replayed 4-bit answers on a T4": {"method": "qlora", **TURING, "lengths": [40, 30], "step": "replayed"},
    "4-bit answers": {"method": "qlora", **HOPPER, "lengths": [40, 30], "step": "decoding"},
    "answers of the base": {"method": "none", **HOPPER, "lengths": [40, 30], "step": "decoding"},
    "answers of full": {"method": "full", **HOPPER, "lengths": [40, 30], "step": "decoding"},
    "answers on a T4": {"method": "lora", **TURING, "lengths": [40, 30], "step": "decoding"},
    "equal answers on a T4": {"method": "lora", **TURING, "lengths": [40, 40], "step": "decoding"},
}
TRAINED = ["lora", "qlora", "full", "lora on a T4", "full on a T4"]
LOOPS = ["all of lora", "all of qlora on a T4", "all of full"]
# (launches, MB) of a training step with gradient checkpointing, by layer: what was reached, 2 to 4 % more.
BOUNDS = {"lora": (340, 4300), "qlora": (375, 4500), "full": (240, 4800), "lora on a T4": (388, 4500)}


@cache
def walked() -> dict[str, Walked]:
    """Walk through all steps in one process."""
    common = {"step": "training", "layers": LAYERS, "vocabulary": VOCABULARY}
    found = walk([common | step | {"method": METHODS[step["method"]]} for step in STEPS.values()])
    return dict(zip(STEPS, found, strict=True))


def half_of(step: str) -> str:
    return "float16" if "T4" in step else "bfloat16"


@pytest.mark.parametrize("step", ["lora", "qlora", "full"])
def test_all_examples_go_through_the_variable_length_kernel(step: str) -> None:
    # Forward, and once more in the backward pass.
    assert Counter({call[:2]: number for call, number in walked()[step].attention.items()}) == {
        ("varlen", ("bfloat16",) * 3): 2 * LAYERS
    }


@pytest.mark.parametrize("step", ["lora on a T4", "full on a T4"])
def test_without_flash_similar_examples_share_an_efficient_call(step: str) -> None:
    shapes: Counter[tuple[int, ...]] = Counter()
    for (kernel, dtypes, states, masked, shared), number in walked()[step].attention.items():
        assert (kernel, dtypes, masked, shared) == ("efficient", ("float16",) * 3, False, False)
        assert len(set(states)) == 1
        shapes[states[0]] += number
    assert shapes == {(3, 16, 300, 128): 2 * LAYERS, (1, 16, 100, 128): 2 * LAYERS}


@pytest.mark.parametrize("step", TRAINED)
def test_no_matrix_is_multiplied_in_fp32(step: str) -> None:
    assert {precisions for _, precisions in products(step)} == {(half_of(step),)}


@pytest.mark.parametrize("step", ["an MLP in fp32", "an MLP of qlora in fp32"])
def test_a_block_in_fp32_is_all_that_multiplies_so(step: str) -> None:
    found, multiplied = walked()[step], Counter[str]()
    for kernel, number in found.kernels.items():
        if kernel[3]:
            multiplied[kernel[1][0]] += number
    # Of one layer's MLP: three matrices and their adapters, forward, again, and backward.
    assert sorted(multiplied) == ["float16", "float32"]
    assert multiplied["float32"] == 32
    assert found.waits == found.blocking_copies == {}
    assert found.without_gradient == ()


@pytest.mark.parametrize("step", TRAINED)
def test_the_host_waits_for_nothing_after_the_first_batch(step: str) -> None:
    assert walked()[step].waits == {}
    assert walked()[step].blocking_copies == {}
    # What the first batch asks for: whether the head alone gives the logits.
    assert all("loss.py" in wait for wait in walked()[step].first_waits)


@pytest.mark.parametrize("step", TRAINED)
def test_everything_that_is_trained_gets_a_gradient(step: str) -> None:
    assert walked()[step].without_gradient == ()


@pytest.mark.parametrize("step", BOUNDS)
def test_launches_and_bytes_of_a_layer_stay_below_bounds(step: str) -> None:
    launches, megabytes = BOUNDS[step]
    assert walked()[step].launches / LAYERS < launches
    assert walked()[step].bytes / LAYERS < megabytes * 1e6


@pytest.mark.parametrize("step", LOOPS)
def test_a_whole_step_of_training_waits_for_nothing_between_points_of_the_curve(step: str) -> None:
    found = walked()[step]
    assert found.waits == {}
    assert found.blocking_copies == {}
    # Loss, norm of the gradient, the clock, and in fp16 the scaler's state, when a point of the curve is written.
    assert 0 < sum(found.logging_waits.values()) <= 10
    assert all("trainer.py" in wait or "meters.py" in wait for wait in found.logging_waits)


def test_clipping_and_optimizer_are_few_launches() -> None:
    # The scaler of fp16 looks at all gradients once more, and its skipped steps are counted.
    launches = {step: walked()[step].outside_passes[0] for step in LOOPS}
    assert launches["all of lora"] < 25
    assert launches["all of qlora on a T4"] < 45
    assert launches["all of full"] < 40  # a matrix of the model is many blocks, so that a launch holds few of them


@pytest.mark.parametrize("step", ["all of lora", "all of full"])
def test_bytes_of_clipping_and_optimizer_are_as_predicted(step: str, qwen_3b: ModelSize) -> None:
    method = model_method(MethodConfig(**METHODS[STEPS[step]["method"]]))
    trained = method.trainable_parameters(with_layers(qwen_3b, LOOP["layers"]))
    assert walked()[step].outside_passes[1] == pytest.approx(STEP_BYTES * trained, rel=0.15)


@pytest.mark.parametrize(
    "step",
    ["large lora", "large lora, nothing again", "large qlora", "large lora on a T4", "all of full",
     "all of full, nothing again"],
)  # fmt: skip
def test_memory_is_as_estimated(step: str, qwen_3b: ModelSize) -> None:
    estimated = estimated_memory(step, qwen_3b)
    wanted = estimated.activations + estimated.logits + estimated.gradients
    # Copies of the weights in half precision are made anew in each pass.
    wanted += estimated.weights - walked()[step].weights if STEPS[step]["method"] == "full" else 0
    assert walked()[step].peak == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("step", ["large lora", "large qlora", "large lora on a T4"])
def test_weights_take_what_is_estimated(step: str, qwen_3b: ModelSize) -> None:
    assert walked()[step].weights == pytest.approx(estimated_memory(step, qwen_3b).weights, rel=0.05)


def estimated_memory(step: str, qwen_3b: ModelSize) -> Memory:
    """Return what is estimated for a step of four times 1,024 tokens."""
    settings = STEPS[step]
    size = with_layers(qwen_3b, settings.get("layers", LAYERS))
    config: Config = changed(
        VALID, method=MethodConfig(**METHODS[settings["method"]]), train__micro_batch=4, train__max_length=1024,
        train__gradient_checkpointing=settings.get("checkpointing", True),
    )  # fmt: skip
    return training_memory(size, config, Machine("cuda", "a card", 2**37, settings["precision"]))


def test_answering_takes_no_attention_in_whole_matrices() -> None:
    assert {call[0] for call in walked()["answers"].attention} <= {"flash", "efficient"}
    calls = walked()["equal answers on a T4"].attention
    assert {(call[0], call[4]) for call in calls} == {("efficient", False)}


@pytest.mark.parametrize("step", ["answers", "4-bit answers", "answers of full", "answers on a T4"])
def test_every_cell_answers_in_the_form_of_the_base(step: str) -> None:
    assert {kernel[1] for kernel in products(step)} == {(half_of(step),)}
    # The adapters of a layer: seven products added in place, four thin ones, shared where inputs are.
    added = 11 * LAYERS if "full" not in step else 0
    launched = walked()[step].launches - walked()["answers of the base"].launches
    if "4-bit" in step:  # one kernel multiplies a 4-bit matrix by few rows
        assert launched <= added + 7 * LAYERS
    else:
        assert launched == added


@pytest.mark.parametrize("step", ["replayed answers", "replayed 4-bit answers on a T4"])
def test_a_step_that_is_replayed_asks_the_host_nothing(step: str) -> None:
    assert walked()[step].waits == {}
    assert walked()[step].blocking_copies == {}
    assert {precisions for _, precisions in products(step)} == {(half_of(step),)}
    assert {call[0] for call in walked()[step].attention} == {"efficient"}
    assert walked()[step].launches <= walked()["answers"].launches


def products(step: str) -> set[tuple[str, tuple[str, ...]]]:
    """Return the products of a step, each with its precisions."""
    found = {kernel[:2] for kernel in walked()[step].kernels if kernel[3]}
    # 4-bit weights have scales in fp32: the input's precision is that of the product.
    return {(name, dtypes[:1]) if "4bit" in name else (name, tuple(sorted(set(dtypes)))) for name, dtypes in found}


def with_layers(size: ModelSize, layers: int) -> ModelSize:
    """Return a size with so many layers, and with the vocabulary that is walked through."""
    kept = {name: shape for name, shape in size.matrices.items() if (layer_number(name) or 0) < layers}
    matrices = {name: (VOCABULARY, shape[1]) if name in size.embeddings else shape for name, shape in kept.items()}
    parameters = sum(rows * columns for name, (rows, columns) in matrices.items() if name != HEAD)
    return dataclasses.replace(
        size, matrices=matrices, layers=layers, vocabulary=VOCABULARY, parameters=parameters
    )  # fmt: skip
