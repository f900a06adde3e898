"""A SLURM of one file: commands that keep jobs in a JSON file, and run none.

`FAKE_SLURM` names the file. `refuses` in it makes sbatch refuse, `silent` makes squeue fail, `calls` lists what was
asked.
"""

import json
import os
import subprocess
import sys
from typing import Any


def main() -> int:
    """Do what the command of this name does."""
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]  # noqa: PTH119 (pathlib takes longer to load)
    with open(os.environ["FAKE_SLURM"], encoding="utf-8") as file:  # noqa: PTH123
        state = json.load(file)
    state["calls"].append([name, *arguments])
    code = COMMANDS[name](state, arguments)
    with open(os.environ["FAKE_SLURM"], "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(state, file)
    return code


def sbatch(state: dict[str, Any], arguments: list[str]) -> int:
    """Add an array, or refuse it."""
    if state.get("refuses"):
        print(f"sbatch: error: Batch job submission failed: {state['refuses']}", file=sys.stderr)
        return 1
    if "--test-only" in arguments:
        return 0
    given = dict(each.split("=", 1) for each in arguments if each.startswith("--") and "=" in each)
    first, _, last = given["--array"].partition("%")[0].partition("-")
    array = 1 + max((job["array"] for job in state["jobs"]), default=0)
    for index in range(int(first), int(last) + 1):
        state["jobs"].append({"array": array, "index": index, "name": given["--job-name"], "state": "PENDING",
                              "reason": "JobHeldUser"})  # fmt: skip
    print(array)
    return 0


def squeue(state: dict[str, Any], arguments: list[str]) -> int:
    """List all jobs."""
    if state.get("silent"):
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    for number, job in enumerate(state["jobs"]):
        print(number, f"{job['array']}_{job['index']}", job["state"], job["reason"], job["name"], sep="|")
    return 0


def scontrol(state: dict[str, Any], arguments: list[str]) -> int:
    """Update, release or put back jobs, or show this one."""
    verb, *rest = arguments
    if verb == "show":
        print(" ".join(f"{key}={value}" for key, value in state["shown"].items()))
    elif verb == "requeue":
        return int(state.get("requeue_fails", 0))
    elif verb == "release":
        for job in state["jobs"]:
            if str(job["array"]) == rest[0]:
                job["reason"] = "Priority"
    else:
        given = dict(each.split("=", 1) for each in rest)
        if state.get("update_fails"):
            print("slurm_update error: Invalid job id specified", file=sys.stderr)
            return 1
        (job,) = [each for each in state["jobs"] if f"{each['array']}_{each['index']}" == given["JobId"]]
        job["name"] = given.get("JobName", job["name"])
        job["after"] = given.get("Dependency", job.get("after"))
    return 0


def scancel(state: dict[str, Any], arguments: list[str]) -> int:
    """Cancel arrays."""
    for job in state["jobs"]:
        if str(job["array"]) in arguments:
            job.update(state="CANCELLED", reason="None")
    return 0


def srun(state: dict[str, Any], arguments: list[str]) -> int:
    """Run a command."""
    code = subprocess.run([each for each in arguments if not each.startswith("--")], check=False).returncode
    return code if code >= 0 else 128 - code


COMMANDS = {"sbatch": sbatch, "squeue": squeue, "scontrol": scontrol, "scancel": scancel, "srun": srun}

if __name__ == "__main__":
    sys.exit(main())
