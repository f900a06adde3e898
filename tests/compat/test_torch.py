"""What is used of torch beyond its promises is still there."""

import inspect
from typing import Any

import pytest
import torch
from packaging.version import Version

from medqa_finetune.compat import torch as compat


def test_the_kernel_for_variable_lengths_takes_what_our_call_gives() -> None:
    """Since 2.13; older ones have the kernel without it, and pairs are taken one by one there."""
    assert compat.has_variable_length_attention() == (Version(torch.__version__) >= Version("2.13"))


def test_a_kernel_with_fewer_arguments_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: Any, max_k: Any) -> None: ...

    monkeypatch.setattr(compat, "varlen_attn", older)
    assert not compat.has_variable_length_attention()


def test_the_seven_first_arguments_are_those_of_our_call() -> None:
    names = list(inspect.signature(compat.varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
