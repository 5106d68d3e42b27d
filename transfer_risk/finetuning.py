"""Fine-tune a source on a task, measure it before and after, and leave everything in a run folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from transfer_risk.adapters import load_source, refuse_unsavable, save_source, source_files
from transfer_risk.callbacks import Steps, Tell
from transfer_risk.evaluation import check_cases
from transfer_risk.files import check_writable
from transfer_risk.fitting import State, fit
from transfer_risk.lineage import seen_cases
from transfer_risk.loadreport import LoadReport
from transfer_risk.measuring import measure_run, models_of, results_of
from transfer_risk.prediction import refuse_stored
from transfer_risk.recipes import Recipe
from transfer_risk.runfolder import RunFolder
from transfer_risk.sources import Source
from transfer_risk.tasks import Task
from transfer_risk.tomlfiles import read_toml
from transfer_risk.training import Start, begin, finish


def finetune(
    source: Source,
    task: Task,
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    command: Sequence[str] = (),
    progress: Steps | None = None,
    tell: Tell | None = None,
    report: Callable[[LoadReport], None] | None = None,
) -> Source:
    """The source fine-tuned on the task's training cases, with its decision.

    The risk comes from the source on the training cases before training (static, as in the paper). With `out` a run
    folder is written (see `runs`): it is evaluated and mapped before and after on the test cases. A run that was cut
    off goes on from its newest state when the same call is made again, and ends with the same bits; of a finished one
    measures and maps that have been lost are made again.

    Args:
        source: Not changed.
        task: Target.
        recipe: Options; the paper's protocol where not given.
        out: Run folder; then task and source must have been loaded from files.
        resume: Insist that `out` is a run that was begun before.
        command: For the record.
        progress: Called with iteration and loss.
        tell: Called with what is under way.
        report: Called with what was loaded, replaced and frozen, before training.

    Raises:
        ValueError: if head, channels or freezing do not fit, nothing is trainable, the training cases have no foreground,
            the result could not be saved, a test case cannot be read or is of a size that the network cannot take, no voxel
            of a test case counts, or `out` holds another run (the difference is named), or a finished one without its model
            or log; nothing is written then.
        OSError: likewise, if `out` cannot be written.
        FloatingPointError: if the loss is no longer finite; the last state is kept.
    """
    options = recipe or Recipe()
    refuse_stored(source, "be fine-tuned")
    if out is None:
        start = begin(source, task, options, tell=tell)
        return _trained(start, task, options, None, progress=progress, tell=tell, report=report)
    refuse_unsavable(source)
    folder = RunFolder.of(out, source, task, options, resume=resume)
    if folder.finished:
        return _finished(folder, source, task, options, tell)
    check_writable(out)
    clock = [time.time()]

    def check(student: Source) -> None:
        _check_saving(student)
        named = replace(student, name=source.name)
        check_cases(task, task.split("test"), named, every_slice=False)

    start = begin(source, task, options, check=check, tell=tell)
    folder.begin()
    student = _trained(start, task, options, folder, progress=progress, tell=tell, report=report)
    clock.append(time.time())
    save_source(student, folder.path / "model")
    measure_run(folder, models_of(source, student, options), task, options, tell)
    clock.append(time.time())
    transferred = options.init == "source"
    seen = seen_cases(source, task, [c.id for c in task.split("test")]) if transferred else []
    folder.write_manifest(_record(start, task, command, clock) | {"seen": seen})
    shutil.rmtree(folder.path / "checkpoint", ignore_errors=True)
    return replace(student, path=str(folder.path))


def _finished(
    folder: RunFolder,
    source: Source,
    task: Task,
    recipe: Recipe,
    tell: Tell | None,
) -> Source:
    """The student of a finished run, whose measures and maps are made again where one of them has been lost.

    It is trusted with code no further than the source that was loaded already.

    Raises:
        ValueError: if model or log are lost.
    """
    model = folder.path / "model"
    weights, description = source_files(source, model)
    trained = (description, weights, folder.path / "log.csv")
    if lost := [path for path in trained if not path.is_file()]:
        raise ValueError(
            f"{lost[0]}: no such file, and only training makes it; delete the folder {folder.path} and fine-tune again"
        )
    network = read_toml(description).get("network", {})
    known = all(network.get(k) == source.architecture.get(k) for k in ("target", "arguments"))
    student = load_source(model, trust=known)
    stages = models_of(source, student, recipe)
    if not all(path.is_file() for path in results_of(folder.path, stages, task)):
        measure_run(folder, stages, task, recipe, tell)
    return replace(student, path=str(folder.path))


def _trained(
    start: Start,
    task: Task,
    recipe: Recipe,
    folder: RunFolder | None,
    *,
    progress: Steps | None,
    tell: Tell | None,
    report: Callable[[LoadReport], None] | None,
) -> Source:
    """The student after its last step, from the newest state in the folder where there is one."""
    if report:
        report(start.report)
    if folder and (saved := folder.read_state()):
        start.state.restore(saved)

    def save(state: State) -> None:
        if folder:
            folder.write_state(state.export())
            folder.write_log(state.log)

    fit(start.state, start.student, start.samples, recipe, save=save, progress=progress)
    if folder:
        folder.write_log(start.state.log)
    return finish(start, task, recipe, tell=tell)


def _check_saving(student: Source) -> None:
    """Raise ValueError, before anything is trained, where the student could not be saved and loaded again."""
    with tempfile.TemporaryDirectory() as folder:
        save_source(student, folder)
        try:
            load_source(folder, trust=True)  # what is loaded was loaded before
        except ValueError as error:
            raise ValueError(
                f"source {student.name}: could not be loaded again after training ({error}); look at [network] of the "
                "source that it starts from"
            ) from None


def _record(
    start: Start, task: Task, command: Sequence[str], clock: Sequence[float]
) -> dict[str, object]:
    """What the manifest of a finished run says of it."""
    began, trained, finished = clock
    training = trained - began + start.state.resumed
    return {
        "finished": True,
        "command": list(command),
        "cases": {
            "train": [c.id for c in start.training],
            "validation": [c.id for c in start.validation],
            "test": [c.id for c in task.split("test")],
        },
        "absent": list(start.absent),
        "head": "kept" if start.kept_head else "new",
        "seconds": {
            "training": round(training, 2),
            "evaluation": round(finished - trained, 2),
        },
    }
