"""Does a source fit a task: channels, classes, what would freeze, what it has seen, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from transfer_risk.channels import channel_note, channel_order
from transfer_risk.classes import class_note, same_classes, shared_classes
from transfer_risk.doctor.cohort import check_zeros
from transfer_risk.doctor.examination import Examined
from transfer_risk.doctor.finding import Finding, from_error
from transfer_risk.encoders import encoder_parameters, encoder_pattern
from transfer_risk.lineage import seen_cases, trainings_of
from transfer_risk.passes import CACHE
from transfer_risk.sources import Source
from transfer_risk.tasks import Task
from transfer_risk.textrows import listed

MIB = 2**20


def check_source(source: Source, task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Findings on a source that loads; `where` begins with its name."""
    yield from (Finding("note", "source", source.name, sentence) for sentence in source.notes)
    yield from _channels(source, task)
    yield from _classes(source, task)
    yield from _parameters(source, task)
    yield from _seen(source, task)
    yield from _zeros(source, task, cases)
    yield from _memory(source, task, cases)


def _channels(source: Source, task: Task) -> Iterator[Finding]:
    where = f"{source.name}: channels"
    try:
        channel_order(source, task.channels)
    except ValueError as error:
        yield from_error(error, "channels", where)
        return
    if note := channel_note(source, task.channels):
        remedy = (
            "rename the channels of the task if they are the same, else do not trust its scores"
        )
        yield Finding("warning", "channels", where, note, remedy)


def _classes(source: Source, task: Task) -> Iterator[Finding]:
    where = f"{source.name}: classes"
    shared = [task.classes[k] for k in shared_classes(source.classes, task.classes)]
    if shared:
        found = (
            f"names that source and task share: {', '.join(shared)}; plain Dice is scored on them"
        )
    else:
        found = f"no name agrees ({', '.join(source.classes[1:])} against {', '.join(task.classes[1:])})"
        found += "; plain Dice stays empty, LEEP and EEP-Dice need no names"
    yield Finding("note", "source", where, found)
    if note := class_note(source.name, source.classes, task.classes):
        remedy = "name its classes as the task's, in their order, if they are others; fine-tuning keeps such a head"
        yield Finding("warning", "source", where, note, remedy)


def _parameters(source: Source, task: Task) -> Iterator[Finding]:
    """How many parameters there are, which would freeze, and whether they are finite."""
    if source.stored is not None:
        found = "saved probabilities without a network: scored and mapped, not fine-tuned"
        yield Finding("note", "parameters", source.name, found)
        return
    sizes = {name: p.numel() for name, p in source.network.named_parameters()}
    bad = [n for n, p in source.network.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        found = f"weights with NaN or infinity: {listed(bad)}"
        yield Finding("error", "parameters", source.name, found, "copy or train the source again")
    where, total = f"{source.name}: encoder", sum(sizes.values())
    if source.path and not source.architecture:  # a program of torch.export, say
        found = f"{total:,} parameters load; the network cannot be built again: scored and mapped, not fine-tuned into a run"
        yield Finding("note", "parameters", source.name, found)
        return
    try:
        pattern = encoder_pattern(source.network, source.encoder)
    except ValueError as error:
        found = f"{total:,} parameters load; {error}"
        remedy = "say in source.toml which part fine-tuning freezes; scores and maps do not need it"
        yield Finding("warning", "parameters", where, found, remedy)
        return
    frozen = sum(p.numel() for p in encoder_parameters(source.network, source.encoder).values())
    head = "kept" if same_classes(source.classes, task.classes) else "new"
    found = (
        f"{total:,} parameters load; {pattern!r} freezes {frozen:,} ({100 * frozen / max(total, 1):.1f} %) in fine-tuning; "
        f"head {head}"
    )
    if frozen < total:
        yield Finding("note", "parameters", where, found)
    else:
        remedy = "give an expression that leaves something to train"
        yield Finding("warning", "parameters", where, found, remedy)


def _seen(source: Source, task: Task) -> Iterator[Finding]:
    """Cases of the task that the source, or one that it was fine-tuned from, was trained on."""
    where, dataset = f"{source.name}: trained.cases", Path(task.root).name
    if not all(t.get("cases") for t in trainings_of(source)):
        whose = "it, or what it was fine-tuned from," if source.trained.get("cases") else "it"
        found = f"does not say which cases {whose} was trained on"
        remedy = "make sure that none of the task's is among them"
        yield Finding("note", "training data", where, found, remedy)
    seen = seen_cases(source, task, [c.id for c in task.cases])
    train, test = [i for i in seen if i not in task.test], [i for i in seen if i in task.test]
    if test:
        found = f"was trained on {len(test)} test cases of the task ({listed(test)})"
        remedy = "its Dice there is too high; choose other test cases or another source"
        yield Finding("error", "training data", where, found, remedy)
    if train:
        found = f"was trained on {len(train)} training cases of the task ({listed(train)})"
        remedy = "its scores are too high beside other sources; read them with that in mind"
        yield Finding("warning", "training data", where, found, remedy)
    for training in (t for t in trainings_of(source) if t.get("dataset") != dataset):
        if alike := sorted({c.id for c in task.cases} & set(training.get("cases", ())) - set(seen)):
            own = training.get("dataset")
            found = f"ids like those of the task ({listed(alike)}), but from the data set {own}, not {dataset}"
            remedy = "make sure that they are other patients"
            yield Finding("note", "training data", where, found, remedy)


def _zeros(source: Source, task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Whether the source takes voxels for background that may be tissue; saved maps and own preparations do not."""
    if source.stored is None and source.prepare is None:
        where, how = f"{source.name}: preprocessing.normalise", source.preprocessing.normalise
        remedy = "correct it if the source was trained with another one, else choose a source for such images"
        yield from check_zeros(where, how, task, cases, remedy)


def _memory(source: Source, task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """What scoring keeps and needs, by the rule of `passes.Predictions`."""
    voxel = len(source.classes) * 4 + 2  # float32 probabilities, int16 label
    sizes = [
        voxel * int(c.pixels.sum())
        for c in cases
        if c.pixels is not None and c.part(task) == "train"
    ]
    if not sizes:
        return
    largest = len(source.classes) * 4 * max(int(np.prod(c.shape)) for c in cases)
    needed = sum(sizes)
    found = (
        f"probabilities of the largest case {largest / MIB:,.1f} MiB (memory beside one forward pass: up to 3 times that); "
        f"scoring wants {needed / MIB:,.1f} MiB in a temporary file to predict each training case once"
    )
    tenths = math.ceil(10 * needed / 2**30)
    remedy = (
        f"--cache {tenths / 10:.1f} gives it, where the disk allows; else cases are predicted again"
    )
    yield Finding("note", "memory", source.name, found, remedy if needed > CACHE else "")
