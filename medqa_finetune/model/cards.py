"""GPUs by name: rates, memory and what they can do; for the efficiency of a run, and for plans on a card elsewhere.

Rates are dense, at boost clock, from NVIDIA's data sheets and architecture papers: half precision is bf16 or fp16
accumulated in fp32, fp32 is without TF32. Of GeForce cards these papers list both ways to accumulate, and torch takes
fp32. Where a sheet gives rates with sparsity, half of it is written here.
"""

import re
from dataclasses import dataclass

from medqa_finetune.memory import MIB
from medqa_finetune.precision import Precision

# Oldest capabilities with bf16 in hardware, and with flash attention in torch.
BF16, FLASH = (8, 0), (8, 0)
# Share of the memory rate that kernels reach which read and write each number once.
MEMORY_SHARE = 0.8
# That of a T4: 220 of its 320 GB/s (Jia et al. 2019, arXiv:1903.07486, geometry of the memory).
T4_MEMORY_SHARE = 0.69
# Seconds from one launch to the next of Python, torch and the driver, on a server's and on a desktop's CPU, and on the
# older and slower CPUs that rented T4s and V100s have. Ours; from the times a token takes in unfused decoding with
# transformers, which are 30 to 45 ms for about 3,450 launches on an H200, and about twice that on a T4.
SERVER, DESKTOP, OLD_SERVER = 10e-6, 8e-6, 20e-6
# Share of the data sheet that products of a training step reach. Ours; of the largest square products 87 % were
# measured on A100 and 80 % on H100 (Bekman, Machine Learning Engineering Open Book, "maximum achievable matmul FLOPS"),
# and those of a step are smaller. Cards of 70 to 150 W do not hold their boost clock under such products: for its limit
# of power a T4 reaches 24 of its 65 TFLOP/s in products of 4096 × 4096 (NVIDIA's answer in its forum, "About GPU peak
# performance", forums.developer.nvidia.com/t/264462).
COOL, HOPPER, AMPERE, DESKTOP_POWER = 0.37, 0.66, 0.72, 0.8
SERVER_AT_LOW_POWER = 0.55


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        title: Name for display.
        pattern: Regular expression of torch's full names of it. GPUs of one name may differ in their power limit;
            laptop GPUs and slices (MIG) have other names and are not listed.
        half: teraFLOP/s of products in bf16 or fp16.
        single: teraFLOP/s of products in fp32.
        memory_rate: Gigabytes per second.
        memory_mib: Memory in MiB, as `nvidia-smi` shows it; error correction takes a sixteenth on cards with GDDR6.
        capability: Compute capability.
        products_share: Share of `half` and `single` that a training step reaches.
        launch_seconds: Seconds from one kernel's launch to the next one's on usual machines with this card.
        memory_share: Share of `memory_rate` that kernels reach which read and write each number once.
    """

    title: str
    pattern: str
    half: float
    single: float
    memory_rate: float
    memory_mib: int
    capability: tuple[int, int]
    products_share: float
    launch_seconds: float
    memory_share: float = MEMORY_SHARE

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return self.memory_mib * MIB

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that it computes in, the one first that `precision=auto` means."""
        return ("bf16", "fp16", "fp32") if self.capability >= BF16 else ("fp16", "fp32")

    @property
    def has_flash(self) -> bool:
        """Whether torch has flash attention for it."""
        return self.capability >= FLASH

    def datasheet_flops(self, precision: str) -> float:
        """Return the data sheet's rate of products, in FLOP/s."""
        return (self.single if precision == "fp32" else self.half) * 1e12

    def product_flops(self, precision: str) -> float:
        """Return the rate of products that training reaches, in FLOP/s."""
        return self.datasheet_flops(precision) * self.products_share

    @property
    def bytes_per_second(self) -> float:
        """Rate of memory that kernels reach, in bytes/s."""
        return self.memory_rate * 1e9 * self.memory_share


# By the short name that users type. Each line ends with its source; "paper" is the architecture's white paper.
CARDS = {
    # Tesla V100 data sheet (2020).
    "v100": Card("V100 SXM2 32GB", r"Tesla V100-SXM[23]-32GB.*", 125, 15.7, 900, 32768, (7, 0), AMPERE, OLD_SERVER),
    "v100-16gb": Card("V100 SXM2 16GB", r"Tesla V100-SXM2-16GB", 125, 15.7, 900, 16384, (7, 0), AMPERE, OLD_SERVER),
    "v100-pcie": Card("V100 PCIe 16GB", r"Tesla V100-PCIE.*", 112, 14, 900, 16384, (7, 0), AMPERE, OLD_SERVER),
    # T4 data sheet (2019).
    "t4": Card("T4", r"Tesla T4|NVIDIA T4", 65, 8.1, 320, 15360, (7, 5), COOL, OLD_SERVER, T4_MEMORY_SHARE),
    # A100 data sheet (2021), for 40 GB that of 2020. The 64 GB are the modules of the computer Leonardo: 124 processors
    # instead of 108 and 1.64 TB/s (CINECA's user guide), so 124/108 of the rates.
    "a100": Card("A100 SXM4 80GB", r"NVIDIA A100-SXM4-80GB", 312, 19.5, 2039, 81920, (8, 0), AMPERE, SERVER),
    "a100-40gb": Card("A100 SXM4 40GB", r"(NVIDIA )?A100-SXM4-40GB", 312, 19.5, 1555, 40960, (8, 0), AMPERE, SERVER),
    "a100-64gb": Card("A100 SXM 64GB", r"NVIDIA A100-SXM-64GB", 358, 22.4, 1640, 65536, (8, 0), AMPERE, SERVER),
    "a100-pcie": Card("A100 PCIe 80GB", r"NVIDIA A100 80GB PCIe", 312, 19.5, 1935, 81920, (8, 0), AMPERE, SERVER),
    "a100-pcie-40gb": Card(
        "A100 PCIe 40GB", r"(NVIDIA )?A100-(PCIE-40GB|PG509-200)", 312, 19.5, 1555, 40960, (8, 0), AMPERE, SERVER
    ),
    # A10 data sheet (2021); AWS's A10G has 70 and 35 TFLOP/s (NVIDIA's sheet for AWS G5).
    "a10": Card("A10", r"NVIDIA A10", 125, 31.2, 600, 23028, (8, 6), SERVER_AT_LOW_POWER, SERVER),
    "a10g": Card("A10G", r"NVIDIA A10G", 70, 35, 600, 23028, (8, 6), DESKTOP_POWER, SERVER),
    # A40 data sheet (2021), RTX A6000 data sheet (2021): half of the rates with sparsity.
    "a40": Card("A40", r"NVIDIA A40", 149.7, 37.4, 696, 46068, (8, 6), AMPERE, SERVER),
    "a6000": Card("RTX A6000", r"NVIDIA RTX A6000", 154.8, 38.7, 768, 49140, (8, 6), AMPERE, DESKTOP),
    # L4 and L40S data sheets (2023): half of the rates with sparsity.
    "l4": Card("L4", r"NVIDIA L4", 121, 30.3, 300, 23034, (8, 9), COOL, SERVER),
    "l40s": Card("L40S", r"NVIDIA L40S", 362, 91.6, 864, 46068, (8, 9), SERVER_AT_LOW_POWER, SERVER),
    # GeForce: GA102 paper, appendix (3080, 3090); Ada paper, appendix (4070 to 4090); Blackwell paper, appendix (5090).
    # The papers lack 3060 and 4060: their fp32 rate is that of nvidia.com, products take twice it as in the others.
    "3060": Card("RTX 3060 12GB", r"NVIDIA GeForce RTX 3060", 25.4, 12.7, 360, 12288, (8, 6), DESKTOP_POWER, DESKTOP),
    "3080": Card("RTX 3080 10GB", r"NVIDIA GeForce RTX 3080", 59.5, 29.8, 760, 10240, (8, 6), DESKTOP_POWER, DESKTOP),
    "3090": Card("RTX 3090", r"NVIDIA GeForce RTX 3090", 71, 35.6, 936, 24576, (8, 6), DESKTOP_POWER, DESKTOP),
    "4060": Card("RTX 4060", r"NVIDIA GeForce RTX 4060", 30.2, 15.1, 272, 8188, (8, 9), DESKTOP_POWER, DESKTOP),
    "4070": Card("RTX 4070", r"NVIDIA GeForce RTX 4070", 58.3, 29.1, 504, 12282, (8, 9), DESKTOP_POWER, DESKTOP),
    "4080": Card("RTX 4080", r"NVIDIA GeForce RTX 4080", 97.5, 48.7, 717, 16376, (8, 9), DESKTOP_POWER, DESKTOP),
    "4090": Card("RTX 4090", r"NVIDIA GeForce RTX 4090", 165.2, 82.6, 1008, 24564, (8, 9), DESKTOP_POWER, DESKTOP),
    "5090": Card("RTX 5090", r"NVIDIA GeForce RTX 5090", 209.5, 104.8, 1792, 32607, (12, 0), DESKTOP_POWER, DESKTOP),
    # H100 data sheet (2023), H200 data sheet (2024), GH200 data sheet (2024): half of the rates with sparsity.
    "h100": Card("H100 SXM 80GB", r"NVIDIA H100 80GB HBM3", 989, 67, 3350, 81559, (9, 0), HOPPER, SERVER),
    "h100-pcie": Card("H100 PCIe", r"NVIDIA H100 PCIe", 756, 51, 2000, 81559, (9, 0), HOPPER, SERVER),
    "h100-nvl": Card("H100 NVL", r"NVIDIA H100 NVL", 835, 60, 3900, 95830, (9, 0), HOPPER, SERVER),
    "gh200": Card("GH200 480GB", r"NVIDIA GH200 480GB", 989, 67, 4000, 97871, (9, 0), HOPPER, SERVER),
    "h200": Card("H200", r"NVIDIA H200", 989, 67, 4800, 143771, (9, 0), HOPPER, SERVER),
    "h200-nvl": Card("H200 NVL", r"NVIDIA H200 NVL", 835, 60, 4800, 143771, (9, 0), HOPPER, SERVER),
}


def card_named(name: str) -> Card | None:
    """Return the card that torch calls by this name; None for one that is not listed."""
    return next((card for card in CARDS.values() if re.fullmatch(card.pattern, name)), None)
