"""Reads the faults of an error in tests, so that they need not compare its words."""

import pytest

from medqa_finetune.errors import Fault, MedQAError


def only_fault(caught: "pytest.ExceptionInfo[MedQAError]") -> Fault:
    """Return the fault of a caught error; fails if there is not exactly one."""
    (fault,) = caught.value.faults
    return fault
