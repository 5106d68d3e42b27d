"""What a model file is, and what would run if it were loaded: found by reading it as data."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

FILE_OPERATORS = ("from_file", "save", "load", "_save", "_load")
GAP = r"(?:\s|\\|#[^\n]*\n)*"
FILE_CALL = re.compile(
    rf"\b(?:torch|aten|ops{GAP}\.{GAP}\w+){GAP}\.{GAP}({'|'.join(FILE_OPERATORS)}){GAP}\("
)


def kind_of(path: Path) -> str:
    """`torchscript`, `export` (torch.export), `pickle` (torch.save), `safetensors`, or `unknown`: by content alone."""
    if path.suffix == ".safetensors":
        return "safetensors"
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80":
        return "pickle"
    names = _members(path)
    if any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    if any(
        re.search(r"(^|/)(archive_format|serialized_exported_program\.json)$", n) for n in names
    ):
        return "export"
    return "pickle" if any(name.endswith("data.pkl") for name in names) else "unknown"


def plainly_loaded(file: Path | IO[bytes], *, trust: bool = False) -> Any:
    """What torch.save wrote: tensors and plain containers alone, or with `trust` anything, which runs its code."""
    with warnings.catch_warnings():  # of torch, about pickles that it did not write
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
        return torch.load(file, map_location="cpu", weights_only=not trust)


def unsafe_globals(path: Path) -> list[str]:
    """What a pickle (torch.save, old or new) would import that is no part of plain tensors: names as module.name."""
    if zipfile.is_zipfile(path):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    return sorted(foreign_globals(path.read_bytes()))


def repeated(archive: zipfile.ZipFile) -> bool:
    """Whether two members differ in capital letters alone, or not at all: torch may read another one than was looked at."""
    names = archive.namelist()
    return len({name.lower() for name in names}) < len(names)


def script_dangers(path: Path) -> list[str]:
    """What in a TorchScript archive reads or writes files, in words.

    Torch looks members up without regard to case, and lets space, comments and broken lines stand between words.
    """
    with zipfile.ZipFile(path) as archive:
        if repeated(archive):
            return ["one of two records of the same name"]
        names = [n for n in archive.namelist() if ".py" in n.lower()]
        code = [archive.read(n).decode(errors="replace") for n in names]
    return sorted({f"torch.{name}" for text in code for name in FILE_CALL.findall(text)})


def foreign_globals(data: bytes) -> set[str]:
    """Names module.name that the pickles in the data import beside torch's own, read without running them."""
    found: set[str] = set()
    stream, strings = io.BytesIO(data), ["", ""]
    try:
        while stream.tell() < len(data):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    found.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    found.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    except ValueError:  # the tensors' bytes that follow the pickles of an old file are no opcodes
        pass
    plain = re.compile(
        r"collections\.OrderedDict|torch\.\w+(Storage|Tensor)|torch\._utils\._rebuild_\w+"
    )
    return {name for name in found if not plain.fullmatch(name)}


def _members(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
