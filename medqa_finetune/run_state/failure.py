"""What went wrong in a run, and what helps."""

from medqa_finetune.compat.failures import is_disk_full, is_out_of_memory
from medqa_finetune.errors import Fault


def explain_failure(error: BaseException) -> Fault:
    """Return what happened and what helps."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, SystemExit):
        return Fault("run-left", f"something in the run called sys.exit({error.code}) before it was done")
    if is_disk_full(error):
        return Fault(
            "disk-full", f"the disk is full ({text[:200]})",
            hint="What was finished is intact: free some space, and the same command resumes it.",
        )  # fmt: skip
    if is_out_of_memory(error):
        return Fault(
            "out-of-memory", f"out of memory ({text[:200]})",
            hint="Try a smaller train.micro_batch (same effective batch), method=qlora, or a shorter train.max_length; "
            "in the evaluation, a smaller evaluate.batch_tokens.",
        )  # fmt: skip
    return Fault("run-failed", f"{type(error).__name__}: {text}")
