"""Records what a step would launch on a GPU: kernels, their bytes and FLOPs, waits of the host, copies, peak memory."""

import traceback
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

# What launches nothing although its schema names no alias.
FREE = {
    "_reshape_alias", "_unsafe_view", "detach_", "device", "empty", "empty_like", "empty_strided", "lift_fresh",
    "new_empty", "new_empty_strided", "prim_device", "set_", "sym_numel", "sym_size", "sym_storage_offset",
    "sym_stride", "unsafe_split",
}  # fmt: skip
# What the host must wait for, since the shape of the result depends on values.
WAITS = {"masked_select", "nonzero", "unique_consecutive", "_unique2"}
# What reads of its first tensor no more than it returns.
GATHERS = {"embedding", "gather", "index", "index_select"}
# What writes its first tensor without reading it.
OVERWRITES = {"copy_", "fill_", "normal_", "zero_", "bernoulli_"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
# A product with 4-bit weights (bitsandbytes): input first, output of its own shape.
FOUR_BITS = "gemm_4bit"
# With more rows it dequantizes the weights, and multiplies by them: scales, their offset, weights, product.
FOUR_BIT_ROWS, DEQUANTIZED = 1536, "dequantize_4bit"
# Operators on lists of tensors, and the most tensors and blocks of a launch by the number of lists, each block of so
# many numbers (torch, ATen/native/cuda/MultiTensorApply.cuh).
LISTS = ("_foreach_", "_fused_", "_amp_foreach_")
TENSORS_OF_LISTS, BLOCKS_OF_LISTS, BLOCK_OF_LISTS = (110, 64, 48, 36, 30), 320, 65536
# torch allocates in blocks of this many bytes.
BLOCK = 512
GPU = "cuda"


@dataclass(frozen=True)
class Kernel:
    """A launch.

    Attributes:
        name: Of the operator, without its overload.
        dtypes: Of its tensors on the GPU, in order.
        bytes: Read and written.
        flops: Of matrix products and attention; 0 for others.
    """

    name: str
    dtypes: tuple[str, ...]
    bytes: int
    flops: int


@dataclass(frozen=True)
class Copied:
    """A copy from the host's memory to the GPU: where it is asked for, and whether the host waits for it.

    It waits unless told not to, and for other than pinned memory in any case.
    """

    blocking: bool
    site: str


@dataclass(frozen=True)
class Attention:
    """A call of an attention function: which kernel runs, and what it gets."""

    kernel: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    masked: bool
    shared_keys: bool


@dataclass
class Trace:
    """What a step launched, each with its number.

    Attributes:
        waits: Of the host for the GPU, by operator and place in the sources.
        peak: Most bytes that were allocated at once, above those allocated before the step.
    """

    kernels: Counter[Kernel] = field(default_factory=Counter)
    attention: Counter[Attention] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[Copied] = field(default_factory=Counter)
    peak: int = 0

    @property
    def launches(self) -> int:
        """Number of kernels."""
        return sum(self.kernels.values())

    @property
    def bytes(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(each.bytes * number for each, number in self.kernels.items())

    @property
    def flops(self) -> int:
        """FLOPs of all matrix products and attention."""
        return sum(each.flops * number for each, number in self.kernels.items())

    def minus(self, other: "Trace") -> "Trace":
        """Return what this trace has more than another; the peak is this one's."""
        return Trace(
            self.kernels - other.kernels, self.attention - other.attention, self.waits - other.waits,
            self.copies - other.copies, self.peak,
        )  # fmt: skip


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator on fake tensors on "cuda" that runs inside it; goes around a FakeTensorMode's inside.

    Tensors in the host's memory are real. Values on the GPU are not known: a boolean that is asked for is true, a
    number is 0.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self._allocated = self._before = 0
        self._storages: dict[int, tuple[Any, int]] = {}
        self._outside = 0

    def restart(self) -> None:
        """Begin a new trace; memory counts from what is allocated now."""
        self.trace, self._before = Trace(), self._allocated

    @property
    def allocated(self) -> int:
        """Bytes on the GPU now, in blocks."""
        return self._allocated

    @contextmanager
    def one_kernel(self) -> Iterator[None]:
        """Record no operators inside: they stand for one kernel, which `add` records. Memory counts as ever."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def add(self, name: str, tensors: list[torch.Tensor], flops: int = 0) -> None:
        """Record a kernel that reads and writes these tensors."""
        self.trace.kernels[Kernel(name, dtypes_of(tensors), sum(map(size_of, tensors)), flops)] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record one operator."""
        options = kwargs or {}
        if _is_of_the_host(args, options):
            with _disable_current_modes():
                return func(*args, **options)
        name = func._schema.name.split("::")[-1]
        given = [each for each in tree_leaves((args, options)) if isinstance(each, torch.Tensor)]
        on_gpu = [each for each in given if each.device.type == GPU]
        if name == "_local_scalar_dense" and on_gpu:
            self.trace.waits[f"item at {site()}"] += 1
            return _any_value(on_gpu[0].dtype)
        if name in WAITS and on_gpu:
            self.trace.waits[f"{name} at {site()}"] += 1
        result = func(*args, **options)
        results = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        if name in ("_to_copy", "copy_"):
            blocking = not (options.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            self._crossing(given[-1] if name == "copy_" else given[0], results[0], blocking=blocking)
        self._allocate(results)
        if not self._outside and not func.is_view and name not in FREE:
            # What works in place on lists returns nothing.
            made = [each for each in results or _written(func, args) if each.device.type == GPU]
            if name == FOUR_BITS and on_gpu[0].numel() > FOUR_BIT_ROWS * on_gpu[0].shape[-1]:
                self._dequantize_and_multiply(on_gpu, made[0])
            elif on_gpu or made:
                self._launch(name, on_gpu, made, _launches_of_lists(args) if name.startswith(LISTS) else 1)
        return result

    def _launch(self, name: str, given: list[torch.Tensor], made: list[torch.Tensor], launches: int) -> None:
        read = list({id(each): each for each in given}.values())
        if name in OVERWRITES:
            read = read[1:]
        written = sum(map(size_of, made))
        moved = 2 * written if name in GATHERS else written + sum(map(size_of, read))
        if name == "index_put_":
            moved = 2 * size_of(given[-1])
        kernel = Kernel(name, dtypes_of(given or made), moved // launches, _flops(name, given, made))
        self.trace.kernels[kernel] += launches

    def _dequantize_and_multiply(self, given: list[torch.Tensor], made: torch.Tensor) -> None:
        states, packed = given[0], max(given[1:], key=size_of)
        weights = states.shape[-1] * made.shape[-1] * states.element_size()
        moved = size_of(packed) + weights
        self.trace.kernels[Kernel(DEQUANTIZED, dtypes_of(given[1:]), moved // 3, 0)] += 3
        moved = size_of(states) + weights + size_of(made)
        self.trace.kernels[Kernel("mm", dtypes_of([states, made]), moved, _flops(FOUR_BITS, given, [made]))] += 1

    def _crossing(self, source: torch.Tensor, target: torch.Tensor, *, blocking: bool) -> None:
        """Record a copy between the host's memory and the GPU's."""
        if source.device.type == GPU and target.device.type == "cpu":
            self.trace.waits[f"copy to the host at {site()}"] += 1
        elif source.device.type == "cpu" and target.device.type == GPU:
            self.trace.copies[Copied(blocking or not source.is_pinned(), site())] += 1

    def _allocate(self, made: list[torch.Tensor]) -> None:
        for tensor in made:
            if tensor.device.type != GPU:
                continue
            storage = tensor.untyped_storage()
            key = id(storage)
            if key in self._storages and self._storages[key][0]() is storage:
                continue
            size = -(-storage.nbytes() // BLOCK) * BLOCK
            self._storages[key] = (weakref.ref(storage, self._freeing(key, size)), size)
            self._allocated += size
            self.trace.peak = max(self.trace.peak, self._allocated - self._before)

    def _freeing(self, key: int, size: int) -> Any:
        def freed(_: object) -> None:
            self._allocated -= size
            self._storages.pop(key, None)

        return freed


def _written(func: Any, arguments: Sequence[Any]) -> list[torch.Tensor]:
    """Return the tensors that an operator writes, by its schema."""
    marked = zip(func._schema.arguments, arguments, strict=False)
    written = [given for place, given in marked if place.alias_info is not None and place.alias_info.is_write]
    return [each for each in tree_leaves(written) if isinstance(each, torch.Tensor)]


def _launches_of_lists(arguments: Sequence[Any]) -> int:
    """Return the launches of an operator on equally long lists of tensors."""
    lists: list[Sequence[torch.Tensor]] = [
        each for each in arguments if isinstance(each, list | tuple) and each and isinstance(each[0], torch.Tensor)
    ]
    sizes: list[int] = [tensor.numel() for tensor in lists[0]]
    # Lists of counters, of one number each, are no more than arguments.
    number = [sum(tensor.numel() for tensor in each) for each in lists].count(sum(sizes))
    blocks = sum(-(-size // BLOCK_OF_LISTS) for size in sizes)
    most = TENSORS_OF_LISTS[min(number, len(TENSORS_OF_LISTS)) - 1]
    return max(-(-len(sizes) // most), -(-blocks // BLOCKS_OF_LISTS))


def _is_of_the_host(args: Any, options: dict[str, Any]) -> bool:
    """Return whether an operator reads and makes tensors in the host's memory alone, which are no fake ones."""
    device = options.get("device")
    if device is not None and torch.device(device).type != "cpu":
        return False
    given = [each for each in tree_leaves((args, options)) if isinstance(each, torch.Tensor)]
    return all(each.device.type == "cpu" and not isinstance(each, FakeTensor) for each in given)


def size_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; those of an expanded one count once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def dtypes_of(tensors: Sequence[torch.Tensor]) -> tuple[str, ...]:
    """Return the names of dtypes, without `torch.`."""
    return tuple(str(each.dtype).removeprefix("torch.") for each in tensors)


def site() -> str:
    """Return the innermost two places outside torch that led here."""
    places = [
        f"{frame.filename.split('site-packages/')[-1]}:{frame.lineno}"
        for frame in reversed(traceback.extract_stack())
        if "site-packages/torch/" not in frame.filename and "scripts/fake_cuda" not in frame.filename
    ]
    return " < ".join(places[:2])


def _any_value(dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return True
    return 0.0 if dtype.is_floating_point else 0


def _flops(name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> int:
    if name == FOUR_BITS:
        return 2 * made[0].numel() * given[0].shape[-1]
    if name not in PRODUCTS:
        return 0
    left, right = given[-2:]
    return 2 * left.numel() * right.shape[-1]
