import re

import pytest

from medqa_finetune.model.cards import CARDS, card_named
from medqa_finetune.model.rates import datasheet_rate


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tesla T4", "t4"), ("Tesla V100-SXM2-16GB", "v100-16gb"), ("Tesla V100-SXM2-32GB", "v100"),
        ("Tesla V100-PCIE-16GB", "v100-pcie"), ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("A100-SXM4-40GB", "a100-40gb"), ("NVIDIA A100-SXM-64GB", "a100-64gb"), ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"), ("NVIDIA A10", "a10"), ("NVIDIA A10G", "a10g"),
        ("NVIDIA A40", "a40"), ("NVIDIA RTX A6000", "a6000"), ("NVIDIA L4", "l4"), ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4060", "4060"), ("NVIDIA GeForce RTX 5090", "5090"), ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"), ("NVIDIA H100 NVL", "h100-nvl"), ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA H200", "h200"), ("NVIDIA H200 NVL", "h200-nvl"),
    ],
)  # fmt: skip
def test_a_card_is_known_by_torchs_name(name: str, key: str) -> None:
    assert card_named(name) == CARDS[key]


@pytest.mark.parametrize(
    "name",
    ["NVIDIA L40", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4060 Ti",
     "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GH200 144G HBM3e", "CPU, 2 threads"],
)  # fmt: skip
def test_other_cards_with_like_names_are_unknown(name: str) -> None:
    assert card_named(name) is None
    assert datasheet_rate(name, "bf16") is None


def test_every_card_has_one_name_and_sound_figures() -> None:
    for key, card in CARDS.items():
        assert re.fullmatch(r"[a-z0-9-]+", key)
        assert 1 < card.half / card.single < 20
        assert 8e9 < card.memory_bytes < 2e11
        assert 0 < card.products_share <= 1
    titles = [card.title for card in CARDS.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("key", "first", "flash"), [("t4", "fp16", False), ("v100", "fp16", False), ("4060", "bf16", True)]
)
def test_precision_follows_the_capability(key: str, first: str, flash: bool) -> None:
    assert (CARDS[key].precisions[0], CARDS[key].has_flash) == (first, flash)
    assert ("bf16" in CARDS[key].precisions) is flash
