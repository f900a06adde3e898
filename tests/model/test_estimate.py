"""What a method is estimated to take, against published figures and against what is measured."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.estimate import (
    CHECKPOINTS_KEPT,
    CONTEXT_BYTES,
    LOGIT_BYTES_AT_ONCE,
    Machine,
    answering_memory,
    checkpoint_bytes,
    optimizer_bytes_per_weight,
    run_bytes,
    training_memory,
)
from medqa_finetune.model.load import Device, load_base, load_tokenizer
from medqa_finetune.training.batches import Batch, concatenate
from medqa_finetune.training.loss import AnswerLoss
from tests.config.builders import VALID, changed
from tests.model.sizes import size_of

QWEN_3B = 3_085_938_688
LORA = MethodConfig(name="lora")
QLORA = MethodConfig(name="qlora", quantization="nf4", double_quantization=True, optimizer="paged_adamw_8bit")
FULL = MethodConfig(name="full", trains="all")
NONE = MethodConfig(name="none", trains="nothing")
CPU = Machine("cpu", "CPU", 2**34)
T4 = Machine("cuda", "Tesla T4", 15_637_086_208)


@pytest.mark.parametrize(
    ("name", "bytes_per_weight"),
    [
        ("adamw_torch", 8), ("adamw_torch_fused", 8), ("paged_adamw_32bit", 8), ("paged_adamw_8bit", 2),
        ("adamw_8bit", 2), ("lion_32bit", 4), ("paged_lion_8bit", 1), ("sgd", 0), ("adafactor", 0), ("ademamix", 12),
    ],
)  # fmt: skip
def test_bytes_that_an_optimizer_keeps_per_weight(name: str, bytes_per_weight: float) -> None:
    assert optimizer_bytes_per_weight(name) == pytest.approx(bytes_per_weight, rel=0.02)


@pytest.mark.parametrize("trains", ["adapter", "all"])
def test_a_checkpoint_is_as_large_as_estimated(trains: str, tmp_path: Path, micro_model: Path) -> None:
    method = MethodConfig(name="m", trains=trains, rank=64)
    base = load_base(micro_model, method, Device("cpu", "CPU", "fp32"), load_tokenizer(micro_model))
    model = model_method(method).apply(base)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight) if weight.requires_grad else None
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    model.save_pretrained(tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix in (".pt", ".safetensors"))
    assert checkpoint_bytes(size_of(micro_model), method, cuda=False) == pytest.approx(written, rel=0.1)


def test_the_optimizer_of_the_device_is_estimated_with(qwen_3b: ModelSize) -> None:
    trained = model_method(QLORA).trainable_parameters(qwen_3b)
    assert checkpoint_bytes(qwen_3b, QLORA, cuda=False) == 12 * trained
    assert checkpoint_bytes(qwen_3b, QLORA, cuda=True) == pytest.approx(6 * trained, rel=0.01)


def test_disk_of_a_run_grows_with_what_is_trained(qwen_3b: ModelSize) -> None:
    none, lora, full = (run_bytes(qwen_3b, changed(VALID, method=method), cuda=False) for method in (NONE, LORA, FULL))
    kept = CHECKPOINTS_KEPT * checkpoint_bytes(qwen_3b, LORA, cuda=False)
    assert none < 50 * 2**20
    assert kept < lora < kept * 1.2 + none
    assert full > QWEN_3B * (3 * 12 + 4)


def memory(size: ModelSize, machine: Machine = T4, **settings: Any) -> Any:
    return training_memory(size, changed(VALID, **settings), machine)


def test_memory_of_weights_by_the_way_they_are_held(qwen_3b: ModelSize) -> None:
    adapter = 4 * 29_933_568
    lora, qlora, int8, full, fp32 = (
        memory(qwen_3b, method=method, precision=precision).weights
        for method, precision in [
            (LORA, "auto"), (QLORA, "auto"), (MethodConfig(name="i", quantization="int8"), "auto"), (FULL, "auto"),
            (LORA, "fp32"),
        ]
    )  # fmt: skip
    assert lora == 2 * QWEN_3B + adapter
    assert fp32 == 4 * QWEN_3B + adapter
    assert full >= 4 * QWEN_3B
    # 4.127 bits for each of the 2,774,532,096 weights of the linear layers (QLoRA, section 3), 2 bytes for the rest.
    assert qlora == pytest.approx(2_774_532_096 * 4.127 / 8 + (QWEN_3B - 2_774_532_096) * 2 + adapter, rel=1e-3)
    assert int8 == 2_774_532_096 + (QWEN_3B - 2_774_532_096) * 2 + adapter


def test_memory_without_a_gpu_is_in_fp32_and_has_no_context(qwen_3b: ModelSize) -> None:
    assert memory(qwen_3b, CPU).weights == 4 * QWEN_3B + 4 * 29_933_568
    assert (memory(qwen_3b, CPU).context, memory(qwen_3b).context) == (0, CONTEXT_BYTES)
    assert memory(qwen_3b, CPU, precision="bf16").weights == 2 * QWEN_3B + 4 * 29_933_568


def test_full_training_takes_sixteen_bytes_a_weight_and_more(qwen_3b: ModelSize) -> None:
    full = memory(qwen_3b, CPU, method=FULL)
    assert full.weights + full.gradients + full.optimizer == 16 * QWEN_3B


def test_memory_is_the_sum_of_its_parts(qwen_3b: ModelSize) -> None:
    # A pass so short that its logits take more than a layer.
    found = memory(qwen_3b, train__micro_batch=1, train__max_length=64)
    parts = (found.weights, found.gradients, found.optimizer, found.activations, found.logits, found.context)
    assert found.total == sum(parts)
    assert min(parts) > 0


def test_longer_rows_take_more_and_checkpointing_takes_less(qwen_3b: ModelSize) -> None:
    usual, twice = memory(qwen_3b), memory(qwen_3b, train__micro_batch=8)
    assert twice.activations == 2 * usual.activations
    assert (twice.weights, twice.optimizer) == (usual.weights, usual.optimizer)
    assert memory(qwen_3b, train__gradient_checkpointing=False).activations > 10 * usual.activations


def test_logits_are_made_a_chunk_at_a_time_and_before_a_layer_is_computed_again(qwen_3b: ModelSize) -> None:
    kept = {"train__gradient_checkpointing": False}
    usual, twice = memory(qwen_3b, CPU, **kept), memory(qwen_3b, CPU, **kept, train__micro_batch=8)
    assert twice.logits == usual.logits == 3 * LOGIT_BYTES_AT_ONCE
    assert memory(qwen_3b, CPU, **kept, train__micro_batch=1, train__max_length=64).logits == 64 * 151936 * 12
    # The layer takes more than they do.
    assert memory(qwen_3b).logits == 0


def test_an_optimizer_of_lists_takes_temporary_numbers_on_a_gpu(qwen_3b: ModelSize) -> None:
    def optimizer(name: str, machine: Machine) -> int:
        method = dataclasses.replace(FULL, optimizer=name, optimizer_without_cuda=name)
        return int(memory(qwen_3b, machine, method=method).optimizer)

    assert optimizer("adamw_torch_fused", T4) == optimizer("adamw_torch", CPU) == 8 * QWEN_3B
    # Those of the passes are free by then.
    assert 8 * QWEN_3B < optimizer("adamw_torch", T4) < 12 * QWEN_3B


def test_what_a_pass_holds_may_be_known(qwen_3b: ModelSize) -> None:
    known = training_memory(qwen_3b, VALID, T4, tokens=1024)
    assert known == memory(qwen_3b, train__micro_batch=1, train__max_length=1024)


def test_answering_takes_weights_and_a_cache(qwen_3b: ModelSize) -> None:
    config = changed(VALID, evaluate__batch_size=8, evaluate__batch_tokens=4096, evaluate__max_new_tokens=512)
    found = answering_memory(qwen_3b, config, T4)
    assert found.weights == memory(qwen_3b).weights
    # Keys and values of 36 layers, 256 wide, two bytes each (Ainslie et al. 2023, arXiv:2305.13245: two heads of 128).
    assert found.activations == 4096 * 36 * 2 * 256 * 2
    few = changed(config, evaluate__batch_size=2)
    assert answering_memory(qwen_3b, few, T4).activations == 2 * (1024 + 512) * 36 * 2 * 256 * 2
    assert (found.gradients, found.optimizer) == (0, 0)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(("dropout", "dora"), [(0.0, False), (0.05, False), (0.05, True)])
def test_activations_are_estimated_near_what_torch_keeps(
    checkpointing: bool, dropout: float, dora: bool, micro_model: Path
) -> None:
    method = MethodConfig(name="lora", rank=2, dropout=dropout, dora=dora)
    tokens = 256
    config = changed(
        VALID, method=method, train__micro_batch=1, train__batch_size=1, train__max_length=tokens,
        train__gradient_checkpointing=checkpointing,
    )  # fmt: skip
    estimated = training_memory(size_of(micro_model), config, CPU).activations
    # One answer token, so that next to nothing is kept of the logits.
    batch = concatenate([{"input_ids": [5] * tokens, "labels": [-100] * (tokens - 1) + [5]}])
    base = load_base(micro_model, method, Device("cpu", "CPU", "fp32"), load_tokenizer(micro_model))
    if checkpointing:
        # transformers gave it another name.
        known = hasattr(base, "activation_checkpointing_enable")
        switch = base.activation_checkpointing_enable if known else base.gradient_checkpointing_enable
        switch({"use_reentrant": False})
        base.enable_input_require_grads()  # type: ignore[no-untyped-call]
    kept = bytes_kept_for_backward(model_method(method).apply(base).train(), batch)
    if checkpointing:  # what one layer keeps, when it is computed again, shows in the other case
        layer = training_memory(size_of(micro_model), changed(config, train__gradient_checkpointing=False), CPU)
        estimated -= layer.activations // 2
    assert 0.5 * kept < estimated < 2 * kept


def bytes_kept_for_backward(model: Any, batch: Batch) -> int:
    """Return the bytes that a forward pass keeps beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with attention_per_pair(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        AnswerLoss(model)(model, batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_processes_that_exchange_gradients_hold_them_twice(qwen_3b: ModelSize) -> None:
    alone, both = (memory(qwen_3b, dataclasses.replace(T4, processes=count), method=FULL) for count in (1, 2))
    assert both == dataclasses.replace(alone, gradients=2 * alone.gradients)


def test_processes_divide_what_is_kept_of_every_weight(qwen_3b: ModelSize) -> None:
    def of(processes: int) -> Any:
        machine = dataclasses.replace(T4, processes=processes)
        return memory(qwen_3b, machine, method=FULL, precision="fp32", train__sharding="full")

    whole, half = memory(qwen_3b, T4, method=FULL, precision="fp32"), of(2)
    outside = 151_936 * 2048 * 4
    assert half.optimizer == pytest.approx(whole.optimizer / 2)
    assert half.activations == whole.activations
    assert whole.gradients / 2 + outside < half.gradients < 0.75 * whole.gradients
    # Embedding and head share their weights, which a step gathers, with those of two layers.
    assert whole.weights / 2 + outside < half.weights < 0.75 * whole.weights
    # Each loads all of the model before it keeps its share.
    assert of(64).total == pytest.approx(4 * QWEN_3B + CONTEXT_BYTES)


def test_a_process_passes_no_more_examples_than_are_its_share(qwen_3b: ModelSize) -> None:
    few, many = (memory(qwen_3b, dataclasses.replace(T4, processes=8), method=LORA, train__batch_size=16,
                        train__micro_batch=count) for count in (2, 16))  # fmt: skip
    assert few == many
