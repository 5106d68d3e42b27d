"""Exported networks: TorchScript, and programs of torch.export (.pt2)."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from transfer_risk.adapters.description import Description
from transfer_risk.adapters.inspection import kind_of, script_dangers
from transfer_risk.adapters.programs import export_dangers
from transfer_risk.adapters.weights import unpickled
from transfer_risk.files import explained
from transfer_risk.sources import Source
from transfer_risk.tasks import Preprocessing

DAMAGED = (zipfile.BadZipFile, zlib.error)
SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".jit", ".torchscript", ".ckpt", ".bin")


def matches(path: Path, description: Description) -> bool:
    """Whether it is a model file of which no description says how to build the network."""
    if description.target == "torchscript":
        return True
    return path.is_file() and path.suffix in SUFFIXES and not description.target


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of an exported file, or with `trust` of a whole pickled network.

    Raises:
        ValueError: naming the file, if it is damaged, holds code that is not a network's, or is a state dict alone.
    """
    file = (
        path if path.is_file() and path.suffix != ".toml" else description.file.parent / "model.ts"
    )
    kind = kind_of(file) if file.is_file() else "missing"
    if kind == "torchscript":
        network = _scripted(file, trust)
        return description.source(network, path, found={}, architecture={"target": "torchscript"})
    if kind == "export":
        program = _program(file, trust)
        return description.source(
            program, path, found=_shape(program, description), architecture={}
        )
    if kind == "missing":
        raise ValueError(f'{file}: no such file; [network] target = "torchscript" wants it')
    if (file.parent.parent / "plans.json").is_file():
        raise ValueError(f"{file}: is a checkpoint of nnU-Net; give its folder, {file.parent}")
    network = unpickled(file, trust=trust)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"{file}: holds a {type(network).__name__} and no network; write source.toml beside it with [network] "
            'target = "package.module:Class" (or the name of a network of MONAI) and [network.arguments]'
        )
    return description.source(network.eval(), path, found={}, architecture={})


class Program(nn.Module):
    """A program of torch.export that accepts batches of any size and the modes that it does not know.

    Args:
        graph: What ExportedProgram.module() returns.
        shape: Shape of its images, None where it is free.
    """

    def __init__(self, graph: nn.Module, shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.graph = graph
        self.shape = shape

    def train(self, mode: bool = True) -> Self:
        """Nothing: the mode of an exported program is fixed, and it refuses to be asked."""
        return self

    def forward(self, images: Tensor) -> Any:
        """What the program returns, for batches of the size that it was exported with joined together."""
        size = self.shape[0] or len(images)
        parts = []
        for part in torch.split(images, size):
            filled = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
            try:
                parts.append(_first(self.graph(filled), len(part)))
            except AssertionError as error:  # torch.export's guards
                wanted = tuple("any" if n is None else n for n in self.shape)
                raise RuntimeError(f"{error}; it was exported for {wanted}") from error
        return _joined(parts)


def _scripted(file: Path, trust: bool) -> nn.Module:
    with _whole(file):
        found = [] if trust else script_dangers(file)
    if found:
        raise ValueError(
            f"{file}: is a TorchScript program that calls {', '.join(found)}, which may touch files, so it was not loaded; "
            "give --trust if you trust whoever made it"
        )
    with _quiet(), _whole(file):
        network: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        return network.eval()


def _program(file: Path, trust: bool) -> Program:
    with _whole(file):
        found = [] if trust else export_dangers(file)
    if found:
        raise ValueError(
            f"{file}: is a torch.export program that holds {', '.join(found[:6])}, which can run code, so it was not "
            "loaded; give --trust if you trust whoever made it"
        )
    with _whole(file), file.open("rb") as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        program = torch.export.load(stream)
        names = program.graph_signature.user_inputs
        inputs = [
            n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names
        ]
        graph = program.module()
    if len(inputs) != 1 or inputs[0].ndim not in (4, 5):
        raise ValueError(
            f"{file}: must take one batch of images (B, C, *S); it takes {len(inputs)} inputs"
        )
    return Program(graph, tuple(n if isinstance(n, int) else None for n in inputs[0].shape))


def _shape(program: Program, description: Description) -> dict[str, Any]:
    """What the shape of a program's images says: dimensions and size; checked against the description."""
    _, channels, *size = program.shape
    table = description.table
    names = description.names("channels") if "channels" in table else ()
    if names and channels is not None and len(names) != channels:
        raise ValueError(
            f"{description.file}: channels names {len(names)}, but the program was exported for {channels}"
        )
    with explained(description.file):
        wanted = Preprocessing.of(table.get("preprocessing", {})).size
    if wanted and any(a is not None and a != b for a, b in zip(size, wanted, strict=False)):
        fixed = ["any" if n is None else n for n in size]
        raise ValueError(
            f"{description.file}: preprocessing.size is {list(wanted)}, but the program was exported for {fixed}"
        )
    found: dict[str, Any] = {"spatial_dims": len(size)}
    if None not in size and not wanted:
        found["preprocessing"] = {"size": size}
    return found


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Name the file where it cannot be read."""
    try:
        yield
    except (RuntimeError, OSError, KeyError, EOFError, AssertionError, *DAMAGED) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file}: cannot be loaded as an exported network ({reason}); copy it again, or export it with torch "
            f"{torch.__version__.partition('+')[0]} or older"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch 2.13 says that torch.jit.load is deprecated; there are many such files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
        yield


def _first(outputs: Any, number: int) -> Any:
    """The outputs of the first images of a batch."""
    if isinstance(outputs, Tensor):
        return outputs[:number] if outputs.ndim else outputs
    if isinstance(outputs, Mapping):
        return {key: _first(value, number) for key, value in outputs.items()}
    return (
        [_first(value, number) for value in outputs]
        if isinstance(outputs, list | tuple)
        else outputs
    )


def _joined(parts: Sequence[Any]) -> Any:
    """Outputs of parts of a batch as those of the whole."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.ndim else first
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    return (
        [_joined(values) for values in zip(*parts, strict=True)]
        if isinstance(first, list)
        else first
    )
