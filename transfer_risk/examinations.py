"""Label maps of new images, examination by examination."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_risk.callbacks import Tell
from transfer_risk.channels import channel_note, expected_channels
from transfer_risk.files import check_writable, stem_and_ending
from transfer_risk.imagefiles import as_stored, channel_count, file_and_channel, note_of, write
from transfer_risk.outfolders import check_apart, check_replaceable
from transfer_risk.prediction import predict, reason, refuse_stored
from transfer_risk.sources import Source

MARK = "transfer-risk "
"""Start of the header description of what is written here."""
NUMBERED = re.compile(r"(.+)_(\d{4})")


def write_predictions(
    source: Source,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    probabilities: bool = False,
    tell: Tell | None = None,
) -> tuple[list[Path], list[str]]:
    """Predict each examination; the label maps written, and a sentence for each that failed.

    Args:
        source: The model.
        images: One file per examination, or nnU-Net style `<case>_0000.nii.gz`, `<case>_0001.nii.gz` of one folder, which
            count the channels that the source wants; or 4D files with these channels (its own, or those that it was
            fine-tuned on where others are stood in for), or `file#k` of such.
        out: Folder for `<case>.nii.gz`.
        probabilities: Write `<case>_probabilities.nii.gz` (X, Y, Z, classes) too; an older one goes where not.
        tell: Called with a sentence on channels that were stood in for, once for each kind.

    Raises:
        ValueError: before anything is written, if two examinations have one name, two files are one channel, the folder
            holds an image, or a file that is no prediction would be written over.
        OSError: likewise, if the folder cannot be written.
    """
    refuse_stored(source, "predict a new image")
    paths, failed = [], []
    wanted = len(expected_channels(source))
    found = examinations(images, len(source.channels), wanted=wanted)
    told: set[str] = set()
    _spare(images, [p for name in found for p in _outputs(out, name, probabilities)])
    check_apart(out, map(str, images), "the examinations")
    check_writable(out)
    for name, files in found.items():
        own = _outputs(out, name, probabilities)
        try:
            _check_whole(source, files.values())
            channels = _names(source, files)
            ordered = [files[k] for k in sorted(files)]
            raw, theta, affine = predict(source, ordered, channels=channels)
            note = channel_note(source, channels, why="for which there is no file")
            if tell and note not in ("", *told):
                told.add(note)
                tell(note)
            write(
                own[0],
                as_stored(raw, str(ordered[0])),
                affine,
                note=f"{MARK}{source.name} {source.decision.kind}",
            )
            paths.append(own[0])
            if probabilities:
                volume = np.ascontiguousarray(np.moveaxis(theta, 0, -1))
                write(own[1], volume, affine, note=f"{MARK}{source.name} probabilities")
            else:
                _remove_older(_outputs(out, name, True)[1])
        except ValueError as error:
            failed.append(reason(str(next(iter(files.values()))), error))
    return paths, failed


def examinations(
    images: Sequence[str | Path], channels: int, *, wanted: int | None = None
) -> dict[str, dict[int, Path]]:
    """Files by name of the examination and number of the channel.

    `<case>_0000` to `<case>_{channels - 1}` of one folder are one examination, and so are `file#0` and so on of a 4D file,
    or a 4D file with as many, or with as many as are `wanted`; any other file is one of its own. Image and header of a pair
    (.img, .hdr) are one file.

    Raises:
        ValueError: if examinations of two folders have one name, two files are one channel, or a file is numbered beyond
            the channels.
    """
    found: dict[str, dict[int, Path]] = {}
    whole = {channels, wanted or channels}
    for path in sorted({p for image in images for p in _channel_files(Path(image), whole)}):
        name, channel = _place(path, channels, lone=1 in whole)
        files = found.setdefault(name, {})
        first = next(iter(files.values()), path)
        if first.parent != path.parent or channel in files:
            raise ValueError(
                f"{first} and {path} would both become {name}.nii.gz; predict them into two folders (--out)"
            )
        files[channel] = path
    _check_beyond(found, channels)
    return found


def _check_beyond(found: Mapping[str, Mapping[int, Path]], channels: int) -> None:
    """Raise ValueError where `<case>_0001` and so on is no channel of the source, and `<case>_0000` of its folder is one."""
    for name, files in found.items():
        numbered = NUMBERED.fullmatch(name)
        first = found.get(numbered[1], {}).get(0) if numbered else None
        path = next(iter(files.values()))
        if first and first.parent == path.parent and NUMBERED.match(first.name):
            raise ValueError(
                f"{path}: must be one of the source's channels 0 to {channels - 1} of {first.name}; leave it out, or rename "
                "it if it is an examination of its own"
            )


def _check_whole(source: Source, files: Collection[Path]) -> None:
    """Raise ValueError for a folder, and for a file of several channels: of a 4D file with as many as wanted each is one."""
    expected = list(expected_channels(source))
    for path in files:
        if path.is_dir():
            raise ValueError(
                f"{path}: is a folder; give the image files in it, such as {shlex.quote(str(path))}/*.nii.gz"
            )
        count = channel_count(path)
        if count > 1:
            single = f", or a single channel of it, as {path.name}#0" if len(expected) == 1 else ""
            raise ValueError(
                f"{path}: has {count} channels; source {source.name} wants {len(expected)}, {expected}; give a file with "
                f"just these{single}"
            )


def _names(source: Source, files: Collection[int]) -> list[str]:
    """Names of the channels that an examination's files are numbered for: those of new images, else the source's.

    `predict` refuses those that are too many.
    """
    expected = expected_channels(source)
    numbers = sorted(files)
    lone = len(expected) == len(numbers) == 1
    if lone or numbers == list(range(len(expected))):
        return list(expected)
    return [source.channels[k] for k in numbers]


def _outputs(out: str | Path, name: str, probabilities: bool) -> list[Path]:
    ends = ("", "_probabilities") if probabilities else ("",)
    return [Path(out) / f"{name}{end}.nii.gz" for end in ends]


def _spare(images: Sequence[str | Path], outputs: Sequence[Path]) -> None:
    """Raise ValueError if an output is one of the images, or a file that somebody else wrote, such as a label."""
    given = {Path(file_and_channel(str(p))[0]).resolve() for p in images}
    for path in outputs:
        if path.resolve() in given:
            raise ValueError(f"{path}: is one of the images; choose another folder (--out)")
    check_replaceable(outputs, lambda note: note.startswith(MARK), "prediction")


def _remove_older(path: Path) -> None:
    """Remove what an earlier prediction wrote; a file of somebody else stays."""
    if note_of(path).startswith(MARK):
        path.unlink()


def _place(path: Path, channels: int, *, lone: bool) -> tuple[str, int]:
    """Name of the examination and number of the channel; a `lone` one may be any of its file.

    Raises:
        ValueError: if a channel of a file has the number of none of the source's.
    """
    file, part = file_and_channel(path.name)
    name, _ = stem_and_ending(file)
    if part:
        if int(part) >= channels and not lone:
            raise ValueError(
                f"{path}: must be #0 to #{channels - 1}, by the order of the source's channels; write those that it wants "
                "into a file of their own"
            )
        return name, int(part) if int(part) < channels else 0
    numbered = NUMBERED.fullmatch(name)
    if numbered and int(numbered[2]) < channels:
        return numbered[1], int(numbered[2])
    return name, 0


def _channel_files(path: Path, whole: Collection[int]) -> list[Path]:
    """`file#k` for each channel of a 4D file with a number of channels that is a whole examination, else the file itself."""
    path = _image_of(path)
    channels = channel_count(path) if max(whole) > 1 else 1
    split = channels > 1 and channels in whole
    return [Path(f"{path}#{k}") for k in range(channels)] if split else [path]


def _image_of(path: Path) -> Path:
    """The .img of a .hdr that has one, else the path."""
    images = [path.with_suffix(e) for e in (".img", ".IMG") if path.suffix.lower() == ".hdr"]
    return next((p for p in images if p.is_file()), path)
