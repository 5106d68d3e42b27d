"""Whether a killed fine-tuning ends with the same bits as an uninterrupted one; writes results/kill_resume.csv.

A small run (a checkpoint after each step) is killed at random moments, by SIGKILL and SIGTERM in turn: half of the kills
come while a checkpoint is being written (`caught_writing`: its temporary file was left behind), the others at any time
after the first. Then the same command goes on, and weights, description, metrics and configuration are compared with those
of a run that nobody disturbed, byte for byte.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import transfer_risk as tr
from transfer_risk import study

SIZES = {"smoke": (2, 20), "quick": (8, 40), "full": (20, 40)}  # moments, iterations
FILES = ("model/model.safetensors", "model/source.toml", "metrics.csv", "config.toml")
LIMIT = 120  # seconds for any of the processes
TRIES = 6
COMMAND = (sys.executable, "-c", "from transfer_risk.cli import main; main()", "finetune")


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Task file and source: grey matter of small pseudo-subjects, from a short training on CSF."""
    cohort = tr.write_tissue_cohort(folder / "data", cases=4, spacing=8.0)
    tasks = {p.stem: p for p in tr.write_tasks(cohort, folder / "tasks", binary=True)}
    first = tr.load_task(tasks["tissue-csf-t1"])
    source = tr.pretrain(first, iterations=5, width=8, depth=3)
    return tasks["tissue-gm-t1"], tr.save_source(source, folder / "source")


def begin(inputs: tuple[Path, Path], out: Path, iterations: int) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    options = ("--iterations", str(iterations), "--checkpoint", "1", "--batch", "4")
    words = [*COMMAND, *map(str, inputs), "--out", str(out), *options, "--lr", "1e-3"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def is_writing(checkpoint: Path) -> bool:
    """Whether a temporary file is in the folder now."""
    try:
        return any(entry.name.startswith(".") for entry in os.scandir(checkpoint))
    except FileNotFoundError:
        return False


def kill(
    process: subprocess.Popen[bytes], out: Path, how: int, *, writing: bool, delay: float
) -> bool:
    """Kill it that long after its first step, or at the next checkpoint from then; whether it was still running."""
    checkpoint, end = out / "checkpoint", time.monotonic() + LIMIT
    while not (checkpoint / "state.pt").exists() and time.monotonic() < end:
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    while writing and process.poll() is None and not is_writing(checkpoint):
        pass
    process.send_signal(how)
    return process.wait(LIMIT) < 0


def states(out: Path) -> int:
    """Steps that log.csv holds after a kill."""
    log = out / "log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


def finish(inputs: tuple[Path, Path], out: Path, iterations: int) -> None:
    """Run to the end."""
    if (code := begin(inputs, out, iterations).wait(LIMIT)) != 0:
        raise RuntimeError(f"{out}: the run ended with exit code {code}")


def moment(
    number: int, inputs: tuple[Path, Path], whole: Path, iterations: int, seconds: float
) -> dict[str, object]:
    """Kill, resume and compare once; a kill that came too late, or missed the writing, is tried again."""
    rng = np.random.default_rng(number)
    how = signal.SIGKILL if number % 2 == 0 else signal.SIGTERM
    writing, out = number // 2 % 2 == 0, whole.parent / f"run{number}"
    for _ in range(TRIES):
        shutil.rmtree(out, ignore_errors=True)
        process = begin(inputs, out, iterations)
        killed = kill(process, out, how, writing=writing, delay=float(rng.uniform(0, seconds)))
        caught = is_writing(out / "checkpoint")
        if killed and caught >= writing:
            break
    kept = states(out)
    finish(inputs, out, iterations)
    return {
        "moment": number,
        "signal": how.name,
        "killed": killed,
        "caught_writing": caught,
        "steps_logged": kept,
        "identical": all((out / n).read_bytes() == (whole / n).read_bytes() for n in FILES),
        "files_left": sum(1 for _ in out.rglob(".*")),
    }


def training_seconds(out: Path) -> float:
    """Seconds that the steps of the undisturbed run took."""
    return float(pd.read_csv(out / "log.csv")["seconds"].sum())


def main() -> None:
    """Run at the asked size, print and write the figures."""
    options = study.program_options(__doc__)
    moments, iterations = SIZES[options.size]
    with tempfile.TemporaryDirectory() as folder:
        inputs, whole = write_inputs(Path(folder)), Path(folder) / "whole"
        finish(inputs, whole, iterations)
        rows = []
        for number in range(moments):
            rows.append(moment(number, inputs, whole, iterations, training_seconds(whole)))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    study.write_table(table, options.out / "kill_resume.csv", digits=None)
    if not (table["identical"] & table["killed"]).all():
        raise RuntimeError(
            "a run was not killed, or the resumed one differs from the undisturbed one"
        )


if __name__ == "__main__":
    study.run_program(main)
