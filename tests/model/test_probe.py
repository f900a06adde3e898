"""What is tried of the machine before a run starts."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes
import psutil
import pytest
import torch

from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model import probe as probe_module
from medqa_finetune.model.probe import probe
from tests.faulty import only_fault

LINEAR_4BIT: Any = bitsandbytes.nn.Linear4bit  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a GPU and without a driver, whatever machine the tests run on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(probe_module, "DEVICES", tmp_path / "dev")


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> Callable[[str], None]:
    """Install a driver tool that does what a line of shell says."""

    def install(line: str) -> None:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        tool.chmod(0o755)

    return install


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to have GPUs of these many bytes; what is computed on them is computed on the CPU."""
    real_ones = torch.ones

    def ones_on_cpu(*shape: int, device: str) -> torch.Tensor:
        return real_ones(*shape)

    def pretend(*memory: int, ones: Any = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(memory))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda card: SimpleNamespace(total_memory=memory[card], major=7)
        )
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
        monkeypatch.setattr(torch, "ones", ones or ones_on_cpu)

    return pretend


def refusal(precisions: Sequence[str] = ("auto",), quantizations: Sequence[str] = ()) -> Fault:
    with pytest.raises(ModelError) as caught:
        probe(precisions, quantizations)
    return only_fault(caught)


def test_a_machine_without_a_gpu_is_a_cpu() -> None:
    machine = probe(["auto", "fp32", "bf16"], ["none"])
    assert (machine.type, machine.memory_bytes) == ("cpu", psutil.virtual_memory().total)
    assert machine.name.startswith("CPU, ")


def test_of_several_gpus_the_smallest_counts(gpus: Callable[..., None]) -> None:
    gpus(2**35, 2**34, 2**36)
    machine = probe(["auto"], ["none"])
    assert (machine.type, machine.name, machine.memory_bytes) == ("cuda", "Tesla T4", 2**34)


def test_all_that_the_device_cannot_do_is_said_at_once(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2**34)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError) as caught:
        probe(["bf16", "auto"], ["nf4", "none"])
    assert [(fault.code, fault.key, fault.got) for fault in caught.value.faults] == [
        ("not-supported", "precision", "bf16"),
        ("quantization-unusable", "method.quantization", "nf4"),
    ]


def test_fp16_without_a_gpu_is_refused() -> None:
    assert (refusal(["fp16"]).code, refusal(["fp16"]).got) == ("needs-gpu", "fp16")


def test_a_gpu_that_fails_at_the_first_product_is_refused_by_name(gpus: Callable[..., None]) -> None:
    def fail(*shape: int, device: str) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device")

    gpus(2**34, ones=fail)
    fault = refusal()
    assert fault.code == "gpu-unusable"
    assert "Tesla T4" in fault.problem
    assert "(CUDA error: no kernel image is available for execution on the device)" in fault.problem
    assert "set CUDA_VISIBLE_DEVICES= (empty)" in fault.hint


def test_a_gpu_that_computes_wrongly_is_refused(gpus: Callable[..., None]) -> None:
    gpus(2**34, ones=lambda *shape, device: torch.full(shape, 2.0))
    assert refusal().code == "gpu-unusable"
    assert "Tesla T4" in refusal().problem


GPU_LISTED = "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1234)'"
BROKEN_DRIVERS = [
    (GPU_LISTED, "(GPU 0: NVIDIA H100 80GB HBM3)"),
    ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "Driver/library version mismatch"),
    ('echo "couldn\'t communicate with the NVIDIA driver" >&2; exit 9', "couldn't communicate with the NVIDIA driver"),
    ("exit 1", "nvidia-smi is installed and fails (without output)"),
    ("printf '\\377'; exit 1", "nvidia-smi is installed and fails"),
]


@pytest.mark.parametrize(("line", "part"), BROKEN_DRIVERS, ids=[part for _, part in BROKEN_DRIVERS])
def test_a_gpu_that_torch_cannot_use_is_not_passed_over_in_silence(
    line: str, part: str, nvidia_smi: Callable[[str], None]
) -> None:
    nvidia_smi(line)
    fault = refusal()
    assert fault.code == "gpu-unusable"
    assert part in fault.problem
    assert "set CUDA_VISIBLE_DEVICES= (empty)" in fault.hint


@pytest.mark.parametrize("line", ["echo 'No devices were found'", "echo 'No devices found.'; exit 6", "exit 0"])
def test_a_driver_without_a_gpu_is_a_cpu(line: str, nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi(line)
    assert probe(["auto"], []).type == "cpu"


def test_a_driver_that_hangs_is_refused(nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "SMI_SECONDS", 0.2)
    nvidia_smi("exec /bin/sleep 30")
    assert "nvidia-smi" in refusal().problem
    assert "TimeoutExpired" in refusal().problem


def test_a_driver_tool_that_cannot_be_started_is_refused(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    nvidia_smi("")
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF")
    assert refusal().code == "gpu-unusable"
    assert "OSError" in refusal().problem


def test_a_device_file_shows_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert probe(["auto"], []).type == "cpu"
    (tmp_path / "dev" / "nvidia0").touch()
    assert refusal().code == "gpu-unusable"


@pytest.mark.parametrize("visible", ["", "-1", " ", "NoDevFiles"])
def test_a_gpu_that_was_hidden_on_purpose_is_not_missed(
    visible: str, nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(GPU_LISTED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert probe(["auto"], []).type == "cpu"


@pytest.mark.parametrize("visible", ["0", "1,2", "GPU-8932f937", "MIG-GPU-8932f937"])
def test_a_gpu_that_was_asked_for_by_name_is_missed(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    fault = refusal()
    assert (fault.code, fault.key, fault.got) == ("gpu-unusable", "CUDA_VISIBLE_DEVICES", visible)


def test_a_torch_for_cpus_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert torch.__version__ in refusal().problem
    assert "Install a torch that is built for CUDA" in refusal().hint


def test_what_torch_warned_of_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your\nsystem is too old.", UserWarning, stacklevel=1)
        return False

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    assert "CUDA initialization: The NVIDIA driver on your system is too old" in refusal().problem


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantization_is_tried_on_this_machine(quantization: str) -> None:
    assert probe(["fp32"], [quantization]).type == "cpu"


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (
            RuntimeError("\nConfigured CUDA binary not found\n at libbitsandbytes.so"),
            "RuntimeError: Configured CUDA binary",
        ),
        (AttributeError("undefined symbol: cdequantize"), "AttributeError: undefined symbol"),
        (OSError("libcudart.so.12: cannot open"), "OSError: libcudart.so.12"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_native_library_that_fails_is_refused_in_one_line(
    error: Exception, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LINEAR_4BIT, "forward", fail)
    fault = refusal(["fp32"], ["nf4"])
    assert (fault.code, fault.key, fault.got) == ("quantization-unusable", "method.quantization", "nf4")
    assert part in fault.problem
    assert "\n" not in fault.line()
    assert "method=lora" in fault.hint


def test_a_missing_bitsandbytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    fault = refusal(["fp32"], ["int8"])
    assert (fault.code, fault.got) == ("quantization-unusable", "int8")
    assert "ModuleNotFoundError" in fault.problem


@pytest.mark.parametrize("factor", [0.0, 2.0, float("nan")])
def test_a_quantization_that_computes_wrongly_is_refused(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LINEAR_4BIT.forward
    monkeypatch.setattr(LINEAR_4BIT, "forward", lambda layer, rows: factor * forward(layer, rows))
    assert (refusal(["fp32"], ["nf4"]).code, refusal(["fp32"], ["nf4"]).got) == ("quantization-unusable", "nf4")
