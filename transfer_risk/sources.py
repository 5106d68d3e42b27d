"""A pretrained segmentation model: its network, its classes and channels, and what it expects of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from numbers import Integral
from typing import TYPE_CHECKING, Any

from transfer_risk.checks import one_of, unique
from transfer_risk.tasks import Decision, Preprocessing, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from transfer_risk.grids import Prepared
    from transfer_risk.volumes import Volume

MISSING = ("", "zero", "repeat")
ACTIVATIONS = ("softmax", "sigmoid", "regions", "none")


def out_of_memory(error: Exception) -> bool:
    """Whether it says that there was not enough memory, of the machine or of another device."""
    said = str(error).lower()
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(w in said for w in words)


@dataclass(frozen=True, eq=False)
class Source:
    """A pretrained segmentation model and what it expects.

    Args:
        name: Short name.
        network: Maps images (B, C, *S) to logits or probabilities (B, Z, *S).
        classes: Source class names, background first.
        channels: Channel names that the network wants, in order.
        labels: Raw value that a class is written as; one that it does not name: its place among the classes.
        activation: What turns outputs into probabilities: `softmax`, `sigmoid` (one channel, or overwriting ones),
            `regions` (nested, outermost first) or `none`.
        spatial_dims: 2 or 3.
        preprocessing: What the network was trained with.
        encoder: Regular expression on parameter names: the part that fine-tuning freezes. Empty:
            `encoders.encoder_pattern` looks it up.
        decision: How probabilities become labels.
        licence: SPDX name, or empty.
        trained: What it was trained on (task, dataset, cases, iterations, seed), for warnings and records; `ancestors` are
            name, dataset and cases, as far as known, of each source that it was fine-tuned from.
        architecture: The `[network]` table from which the network can be built again; empty: it cannot be saved.
        prepare: From an examination (channels in the source's order) to what the network sees, for model families with
            a preprocessing of their own; None: `grids.prepared` with `preprocessing`.
        stored: Probabilities (Z, X, Y, Z') of a case id on its image's grid, for a source that is nothing but saved
            maps; its network is never called.
        stored_affine: Voxel to world (4, 4) of a case id's saved maps; None, or gives None, where their files say nothing.
        path: Folder or file that it was read from; empty if it was built in Python.
        missing_channels: What stands for channels that a task lacks: `zero`, or `repeat` (the first one that it has); empty:
            that is an error.
        notes: What a reader should know of how it was loaded, in sentences.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    labels: Mapping[str, int] = field(default_factory=dict)
    activation: str = "softmax"
    spatial_dims: int = 2
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    encoder: str = ""
    decision: Decision = field(default_factory=Decision)
    licence: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Volume], Prepared] | None = None
    stored: Callable[[str], NDArray[Any]] | None = None
    stored_affine: Callable[[str], NDArray[Any] | None] | None = None
    path: str = ""
    missing_channels: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the words, that names are unique, and that labels and offsets are those of the classes."""
        for key in ("name", "licence"):
            if not isinstance(getattr(self, key), str):
                raise ValueError(f"{key} must be text, in quotes; got {getattr(self, key)!r}")
        unique("classes", self.classes)
        if later := [name for name in self.classes[1:] if name.casefold() == "background"]:
            raise ValueError(
                f"classes must have {later[0]} first, as the network's first output; got {list(self.classes)}; give a "
                "network with its outputs in that order"
            )
        unique("channels", self.channels)
        self._check_labels()
        if not isinstance(self.encoder, str):
            raise ValueError(f"encoder must be a regular expression; got {self.encoder!r}")
        self._check_trained()
        if self.decision.offsets and len(self.decision.offsets) != len(self.classes):
            raise ValueError(
                f"decision.offsets must be one for each of the classes {list(self.classes)}; got "
                f"{list(self.decision.offsets)}"
            )
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("spatial_dims", self.spatial_dims, (2, 3))
        one_of("missing_channels", self.missing_channels, MISSING)

    @property
    def values(self) -> tuple[int, ...]:
        """Raw value that each class is written as: that of `labels`, else its place among the classes."""
        return tuple(self.labels.get(name, k) for k, name in enumerate(self.classes))

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (B, Z, *S) for preprocessed images (B, C, *S); no gradients, train mode restored.

        Raises:
            ValueError: as `outputs`.
        """
        from transfer_risk.outputs import activate

        return activate(self.outputs(images), self.activation)

    def outputs(self, images: Tensor) -> Tensor:
        """Raw outputs, float32 at the images' resolution, as `activation` takes them; no gradients, train mode restored.

        Raises:
            ValueError: naming the source, if channels or dimensions are not its own, or its network returns NaN, another
                number of classes, no segmentation at all, or probabilities where logits are declared (and vice versa).
        """
        import torch

        from transfer_risk.outputs import check_meaning

        with evaluating(self.network), torch.no_grad():
            outputs = self._raw(images)
        with self._named():
            check_meaning(outputs, self.activation)
        return outputs

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, Z, *S) whose softmax is the probabilities, with gradients and in the network's current mode.

        Raises:
            ValueError: naming the source, if channels, dimensions or classes are not its own.
        """
        from transfer_risk.outputs import class_logits

        return class_logits(self._raw(images), self.activation)

    def _raw(self, images: Tensor) -> Tensor:
        """Raw outputs at the images' resolution, float32."""
        from transfer_risk.outputs import head, num_channels

        if images.ndim != self.spatial_dims + 2 or images.shape[1] != len(self.channels):
            raise ValueError(
                f"source {self.name} wants images (B, {len(self.channels)}, *S) with {self.spatial_dims} spatial "
                f"dimensions for channels {list(self.channels)}; got {tuple(images.shape)}"
            )
        try:
            outputs = self.network(images)
        except Exception as error:  # whatever a network raises for a size that it cannot take
            if out_of_memory(error):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            remedy = _remedy(self.network, images, error)
            raise ValueError(
                f"source {self.name}: its network cannot work on images {tuple(images.shape)} ({reason}); {remedy}"
            ) from error
        with self._named():
            found = head(
                outputs, images.shape[2:], num_channels(self.activation, len(self.classes))
            )
        return self.ordered(found).float()

    def ordered(self, outputs: Tensor) -> Tensor:
        """The network's channels (B, Z, *S) in the order of the source's classes, where `[network] order` says another."""
        order = self.architecture.get("order")
        return outputs[:, order] if order else outputs

    def _check_trained(self) -> None:
        """Raise ValueError unless cases are lists, and the ancestors tables with such."""
        ancestors = self.trained.get("ancestors", [])
        if not isinstance(ancestors, list | tuple) or not all(
            isinstance(a, Mapping) for a in ancestors
        ):
            raise ValueError(f"trained.ancestors must be a list of tables; got {ancestors!r}")
        for where, table in (("", self.trained), *((".ancestors", a) for a in ancestors)):
            if not isinstance(table.get("cases", []), list | tuple):
                raise ValueError(f"trained{where}.cases must be a list; got {table['cases']!r}")

    def _check_labels(self) -> None:
        """Raise ValueError unless each class is written as a whole number of its own."""
        for name, value in self.labels.items():
            if name not in self.classes:
                raise ValueError(f"labels must name classes of {list(self.classes)}; got {name!r}")
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if not whole or not -(2**15) <= value < 2**15:
                raise ValueError(
                    f"labels.{name} must be one whole number of 16 bits, which predict writes; got {value!r}"
                )
        for value, number in Counter(self.values).items():
            if number > 1:
                same = [n for n, v in zip(self.classes, self.values, strict=True) if v == value]
                raise ValueError(
                    f"labels must give each class a value of its own; {', '.join(same)} would all be written as {value} (a "
                    "class that labels does not name is written as its place, background as 0); name all of them in labels"
                )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the source's name and what it declares before an error."""
        try:
            yield
        except ValueError as error:
            raise ValueError(
                f"source {self.name} ({len(self.classes)} classes, activation {self.activation}): its network {error}"
            ) from None


def written_labels(task: Task) -> dict[str, int]:
    """Raw value of each class, as a source that is made from a task writes it: the first that the task has for it.

    Background is 0 unless 0 is a class or ignored; then the first other value that is background, or the first that is no
    class where the task has none.

    >>> written_labels(Task("t", ("background", "a"), ("T1",), (), labels={"a": (0,)}, background=(1,)))
    {'background': 1, 'a': 0}
    """
    classes = {v for values in task.labels.values() for v in values}
    free = [v for v in (0, *task.background) if v not in task.ignore]
    background = next(v for v in chain(free, count()) if v not in classes)
    return {task.classes[0]: background} | {c: values[0] for c, values in task.labels.items()}


def _remedy(network: nn.Module, images: Tensor, error: Exception) -> str:
    """What may help a network that fails on images."""
    if isinstance(error, ImportError):
        return "install the package that is missing"
    first = next(network.parameters(), None)
    if first is not None and (first.device, first.dtype) != (images.device, images.dtype):
        return (
            f"its weights are {first.dtype} on {first.device}, the images {images.dtype} on {images.device}: give "
            "network.float().cpu()"
        )
    return "set preprocessing.size to a size that it can take"


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the mode of each module as before outside."""
    training = [m for m in network.modules() if m.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
