import time

import pytest
import torch

from medqa_finetune.model import rates
from medqa_finetune.model.rates import datasheet_rate, find_rates, measure_matrix_rate


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("Tesla T4", 65e12, 8.1e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 19.5e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 19.5e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA H200", 989e12, 67e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("Tesla V100-SXM2-16GB", 125e12, 15.7e12),
        # Other cards that have the name of a known one in theirs.
        ("NVIDIA GH200 480GB", 989e12, 67e12),
        ("NVIDIA L40", None, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None),
        ("CPU, 2 threads", None, None),
    ],
)
def test_a_card_is_known_by_its_whole_name(name: str, half: float | None, single: float | None) -> None:
    assert datasheet_rate(name, "fp16") == datasheet_rate(name, "bf16") == half
    assert datasheet_rate(name, "fp32") == single


def test_the_rate_is_that_of_the_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([9.0, 2.0, 1.0, 3.0, 8.0, 8.0, 8.0, 8.0])
    monkeypatch.setattr(rates, "SIZES", (8, 16))
    monkeypatch.setattr(rates, "SECONDS", 1e9)
    monkeypatch.setattr(rates, "_seconds", lambda *of: next(taken))
    # 2 * 8**3 in a second; the larger product, 2 * 16**3 in 8 s, is no faster.
    assert measure_matrix_rate.__wrapped__("cpu", "fp32") == 1024.0


def test_measuring_takes_about_a_second_and_finds_what_torch_does() -> None:
    started = time.perf_counter()
    found = find_rates("cpu", "CPU", "fp32")
    assert time.perf_counter() - started < 5
    assert found.datasheet is None
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    # The machine may do something else at the time.
    assert 0.1 < 2 * 1024**3 / min(seconds) / found.measured < 10


def test_measuring_is_done_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_rates("cpu", "CPU", "fp32")
    monkeypatch.setattr(rates, "_seconds", lambda *of: pytest.fail("measured again"))
    assert find_rates("cpu", "CPU", "fp32") == first
