"""A copy of a source's network fitted to a target: which tensors were loaded, replaced or left, which are trained."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from transfer_risk.classes import matched_classes, same_classes
from transfer_risk.loadreport import parts
from transfer_risk.networks import LAYERS, with_outputs
from transfer_risk.prediction import refuse_stored
from transfer_risk.sources import Source, evaluating
from transfer_risk.tasks import Decision

OUTPUTS = ("out_channels", "num_classes", "n_classes", "classes")
"""Arguments by which classes of networks call their number of outputs."""
PROBED = 64
"""Pixels along each axis of an image that a network of any size is tried on."""


def refuse_ensemble(source: Source) -> None:
    """Raise ValueError where a source is the mean of several networks: no one layer gives its outputs."""
    members = getattr(source.network, "folds", ())
    if len(members) > 1:
        raise ValueError(
            f"source {source.name} is the mean of {len(members)} networks, which get no new head together; fine-tune one "
            "of them: give its fold folder"
        )


def adapted_source(
    source: Source, classes: Sequence[str], *, head: str, scratch: bool, seed: int
) -> tuple[Source, bool]:
    """The source with a copy of its network that has an output for each class, and whether its head was kept.

    A head that is not kept gives logits for softmax. Where the source's table of arguments says how many outputs the
    network has, it is built again with the new number; else its last layer is replaced.

    Args:
        source: Not changed.
        classes: Of the target, background first.
        head: `keep`, `new`, `auto` (keep where the classes are as many and have the same names, or none in common; with
            `scratch` where they are as many), or `probe` (new; fitted later).
        scratch: Forget every weight.
        seed: Of new weights.

    Raises:
        ValueError: if the head cannot be kept or replaced, or the weights cannot be forgotten.
    """
    refuse_stored(source, "be fine-tuned")
    num_classes = len(classes)
    same = len(source.classes) == num_classes
    if head == "keep" and not same:
        raise ValueError(
            f"head keep needs as many classes as source {source.name} has ({len(source.classes)}); the task has "
            f"{num_classes}. Use --head new"
        )
    alike = same if scratch else same_classes(source.classes, classes)
    kept = head == "keep" or (head == "auto" and alike)
    if not kept and source.activation == "none":
        raise ValueError(
            f"source {source.name} cannot get a new head: its network ends in a softmax or sigmoid of its own (activation "
            "none), which would stand behind it; give a network that returns logits, or --head keep"
        )
    with torch.no_grad():  # else the copies of TorchScript's parameters are no leaves
        result = replace(source, network=copy.deepcopy(source.network))
    torch.manual_seed(seed)
    if not kept:
        result = _rebuilt(source, num_classes) or _with_new_layer(result, num_classes)
    for parameter in result.network.parameters():
        parameter.requires_grad_(True)
    if scratch:
        _forget(result.network, source.name)
    return result, kept


def in_class_order(student: Source, classes: Sequence[str]) -> Source:
    """The student with the outputs of its head in the order of the classes that they count as; others fill the gaps.

    Args:
        student: Its network is changed.
        classes: Of the target, background first.

    Raises:
        ValueError: if the outputs cannot be put in order.
    """
    order = _head_order(student.classes, classes)
    if order == list(range(len(classes))):
        return student
    if student.activation == "softmax":
        layer = student.network.get_submodule(head_name(student.network, student))
        images = torch.rand(1, len(student.channels), *_probed_shape(student))
        with evaluating(student.network), torch.no_grad():
            wanted = student.logits(images)[:, order]
            for parameter in layer.parameters(recurse=False):
                parameter.copy_(parameter[order].clone())
            if torch.allclose(student.logits(images), wanted, atol=1e-4):
                return replace(student, classes=tuple(classes))
    raise ValueError(
        f"source {student.name} has the task's classes in another order ({', '.join(student.classes)}, not "
        f"{', '.join(classes)}), and its head cannot be put in order; use --head new"
    )


def _head_order(own: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Number in `own` for each of as many wanted classes: that which counts as it, else the first that is left."""
    matched = matched_classes(own, wanted)
    left = iter([z for z in range(1, len(own)) if z not in matched.values()])
    return [0, *(matched[k] if k in matched else next(left) for k in range(1, len(wanted)))]


def freeze(network: nn.Module, pattern: str) -> None:
    """Freeze the parameters that the expression matches (empty: none); a shared one if any of its names matches.

    Raises:
        ValueError: if nothing, or everything, would be frozen.
    """
    if not pattern:
        return
    expression = re.compile(pattern)
    everything = list(network.named_parameters(remove_duplicate=False))
    chosen = {id(p) for name, p in everything if expression.search(name)}
    if not chosen:
        names = tuple(name for name, _ in everything)
        raise ValueError(
            f"freeze {pattern!r} matches no parameter; the network's parts are {parts(names)}"
        )
    if len(chosen) == len({id(p) for _, p in everything}):
        raise ValueError(f"freeze {pattern!r} matches every parameter; nothing would be trained")
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) not in chosen)


def training_mode(network: nn.Module) -> None:
    """Training mode, but evaluation mode for parts that are frozen whole: norm statistics and dropout stand still."""
    network.train()
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


def head_name(network: nn.Module, source: Source) -> str:
    """Name of the layer that gives the network's outputs: the last one that runs, by a probing forward pass.

    Raises:
        ValueError: if the last layer is none whose outputs are the source's classes.
    """
    order: list[str] = []
    names = {module: name for name, module in network.named_modules()}
    hooks = [
        module.register_forward_hook(lambda m, _i, _o: order.append(names[m]))
        for module in network.modules()
        if isinstance(module, LAYERS)
    ]
    shape = _probed_shape(source)
    try:
        with evaluating(network), torch.no_grad():
            replace(source, network=network).logits(torch.zeros(1, len(source.channels), *shape))
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        raise ValueError(
            f"source {source.name}: its network ({type(network).__name__}) shows no layers; the head cannot be adapted. Use "
            "head keep, on a task with as many classes"
        )
    outputs = _outputs(network.get_submodule(order[-1]))
    if outputs not in {len(source.classes), len(source.classes) - 1}:
        raise ValueError(
            f"source {source.name}: its last layer {order[-1]} has {outputs} outputs for {len(source.classes)} classes; the "
            "head cannot be adapted. Give it a last convolution of its own"
        )
    return order[-1]


def _probed_shape(source: Source) -> tuple[int, ...]:
    """Spatial shape of an image that the network is tried on."""
    return source.preprocessing.size or (PROBED,) * source.spatial_dims


def _rebuilt(source: Source, num_classes: int) -> Source | None:
    """The source's network built again with another number of outputs, equal tensors copied; None where unknown how."""
    build, table = type(source.network), source.architecture
    target = str(table.get("target", "")).replace(":", ".").rpartition(".")[2]
    if "arguments" not in table or target.lower() != build.__name__.lower():
        return None
    parameters = inspect.signature(build).parameters
    name = next((n for n in OUTPUTS if n in parameters), None)
    if name is None or table["arguments"].get(name, parameters[name].default) == num_classes:
        return None
    arguments = {**table["arguments"], name: num_classes}
    network = build(**arguments)
    old, new = source.network.state_dict(), network.state_dict()
    same = {n: t for n, t in old.items() if n in new and t.shape == new[n].shape}
    network.load_state_dict(same, strict=False)
    architecture = {**table, "arguments": arguments}
    return _softmax(replace(source, network=network.eval(), architecture=architecture), num_classes)


def _headed(architecture: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The `[network]` table of a network whose layer of that name was replaced, so that it can be built again."""
    sized = architecture.get("target", "unet") in ("unet", "nnunet")  # built for the classes
    return dict(architecture) if sized else {**architecture, "head": name}


def _with_new_layer(source: Source, num_classes: int) -> Source:
    """The source with a new last layer in its network, which is changed.

    Raises:
        ValueError: if the network does not work with it.
    """
    refuse_ensemble(source)
    name = head_name(source.network, source)
    with_outputs(source.network, name, num_classes)
    source = replace(source, architecture=_headed(source.architecture, name))
    result = _softmax(source, num_classes)
    try:
        head_name(result.network, result)
    except ValueError as error:
        raise ValueError(
            f"source {source.name}: with a new last layer {name} for {num_classes} classes its network does not work "
            f"({error}); describe it by [network] target and arguments in its source.toml, so that it can be built again"
        ) from None
    return result


def _softmax(source: Source, num_classes: int) -> Source:
    """The source as one of so many nameless classes by softmax, whose channels are in the order of its last layer."""
    return replace(
        source,
        classes=tuple(map(str, range(num_classes))),
        labels={},
        decision=Decision(),
        activation="softmax",
        architecture={k: v for k, v in source.architecture.items() if k != "order"},
    )


def _forget(network: nn.Module, name: str) -> None:
    """Draw all weights again."""
    for path, module in network.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        reset = getattr(module, "reset_parameters", None)
        if own and reset is None:
            raise ValueError(
                f"source {name}: its part {path or type(module).__name__} has no reset_parameters; init random is not "
                "possible for it"
            )
        if reset is not None:
            reset()


def _outputs(layer: nn.Module) -> int:
    return int(
        layer.out_features if isinstance(layer, nn.Linear) else getattr(layer, "out_channels", 0)
    )
