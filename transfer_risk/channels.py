"""A task's channels in a source's order: by name, by position, or with stand-ins for missing ones."""

from __future__ import annotations

from collections.abc import Sequence

from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import Array, Volume, read_labelled


def channel_order(source: Source, channels: Sequence[str]) -> list[int]:
    """Where each of the source's channels stands among those of a task: by name; by position where no name is shared.

    Capital letters do not matter. A channel that the task lacks is -1 (zeros), or that of the first one it has, as
    `source.missing_channels` says; and so is one that a model which was fine-tuned with stand-ins did not see then.

    Raises:
        ValueError: if neither names nor number agree, and nothing is said of missing channels, or all would be zeros.
    """
    own, names, _ = _known(source, channels)
    shared = [c for c in own if c in names]
    if len(shared) == len(own):
        return [names.index(c) for c in own]
    if read_by_position(source, channels):
        return list(range(len(names)))
    if not source.missing_channels or (source.missing_channels == "zero" and not shared):
        raise ValueError(
            f"source {source.name} wants the channels {list(source.channels)}; the task has {list(channels)}; choose a "
            "source that fits, or stand in for missing channels with --missing-channels zero or repeat "
            "(Source.missing_channels); zero needs a channel that both have"
        )
    readable = [k for k, name in enumerate(names) if name]
    first = names.index(shared[0]) if shared else next(iter(readable), 0)
    fill = -1 if source.missing_channels == "zero" else first
    return [names.index(c) if c in names else fill for c in own]


def read_by_position(source: Source, channels: Sequence[str]) -> bool:
    """Whether a task's channels are taken in their order: as many as the source's, and none of its names."""
    own, names, read = _known(source, channels)
    return not read and len(own) == len(names) and not set(own) & set(names)


def _known(source: Source, channels: Sequence[str]) -> tuple[list[str], list[str], set[str]]:
    """Small letters of the source's channels, of those of a task that it may read (others ""), and of those it is bound to.

    It is bound to what it read where it was fine-tuned with stand-ins for the others.
    """
    own = [c.casefold() for c in source.channels]
    read = {c.casefold() for c in source.trained.get("channels_read", ())}
    names = [c if not read or c in read else "" for c in map(str.casefold, channels)]
    return own, names, read


def channels_read(source: Source, channels: Sequence[str]) -> tuple[str, ...]:
    """Those of a task's channels that the source reads where others are stood in for; empty where none is.

    Raises:
        ValueError: as `channel_order`.
    """
    order = channel_order(source, channels)
    if -1 not in order and len(set(order)) == len(order):
        return ()
    return tuple(c for k, c in enumerate(channels) if k in order)


def expected_channels(source: Source) -> tuple[str, ...]:
    """Channels that new images have: the source's, or those that it read where it was fine-tuned with stand-ins."""
    return tuple(source.trained.get("channels_read", ())) or source.channels


def channel_note(
    source: Source, channels: Sequence[str], *, why: str = "which the task lacks"
) -> str:
    """What a reader should know of how a task's channels came to the source's; empty if by name."""
    own, names, read = _known(source, channels)
    missing = [c for c, name in zip(source.channels, own, strict=True) if name not in names]
    if not missing:
        return ""
    if read and {*map(str.casefold, missing)} & {*map(str.casefold, channels)}:
        why = "as in its fine-tuning"
    if source.missing_channels and (read or len(missing) < len(own) or len(missing) != len(names)):
        what = "zeros" if source.missing_channels == "zero" else "copies of another channel"
        return f"source {source.name} was given {what} for the channels {missing}, {why}"
    return f"source {source.name} reads the channels {list(source.channels)}; it was given {list(channels)} by position"


def read_for(
    source: Source, case: Case, task: Task, *, every_slice: bool = False
) -> tuple[Volume, Array]:
    """A case as `volumes.read_labelled` has it, with its channels in the source's order."""
    volume, labels = read_labelled(case, task, every_slice=every_slice)
    return in_order(source, volume, task.channels), labels


def in_order(source: Source, volume: Volume, channels: Sequence[str]) -> Volume:
    """The volume with its channels (named) in the source's order, missing ones filled in."""
    order = channel_order(source, channels)
    if order == list(range(len(volume.image))):
        return volume
    image = volume.image[order]
    image[[place == -1 for place in order]] = 0
    return Volume(image, volume.affine, volume.labels)
