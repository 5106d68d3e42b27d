"""Which parameters of a network are its encoder, the contracting path up to the bottleneck: never a silent guess."""

from __future__ import annotations

import re

from torch import nn

KNOWN = {
    "monai.networks.nets.unet.UNet": r"^model\.(1\.submodule\.)*(?!1\.|2\.)",
    "monai.networks.nets.attentionunet.AttentionUnet": r"^model\.(1\.submodule\.)*(0\.)?conv\.",
    "monai.networks.nets.basic_unet.BasicUNet": r"^(conv_0|down_\d+)\.",
    "monai.networks.nets.dynunet.DynUNet": r"^(input_block|downsamples|bottleneck)\.",
    "monai.networks.nets.segresnet.SegResNet": r"^(convInit|down_layers)\.",
    "monai.networks.nets.swin_unetr.SwinUNETR": r"^(swinViT|encoder\d+)\.",
    "monai.networks.nets.unetr.UNETR": r"^(vit|encoder\d+)\.",
}
"""By class: regular expression on parameter names."""


def encoder_pattern(network: nn.Module, given: str = "") -> str:
    """Regular expression (for `re.search`) on parameter names that selects the encoder.

    It is what is given; else what lies in an attribute `encoder` (so in nnU-Net's networks); else what the table says of the
    network's class.

    Raises:
        ValueError: if none of these says it, or the expression is invalid or selects nothing; lists the top-level names.
    """
    pattern = given or _found(network)
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    top = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names)) or "none"
    if not pattern:
        raise ValueError(
            f"network {type(network).__name__} does not say which part is its encoder; give encoder = a regular "
            f"expression on parameter names (top level: {top})"
        )
    try:
        chosen = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise ValueError(f"encoder = {pattern!r} is no regular expression ({error})") from None
    if not chosen:
        raise ValueError(f"encoder = {pattern!r} matches no parameter (top level: {top})")
    return pattern


def encoder_parameters(network: nn.Module, given: str = "") -> dict[str, nn.Parameter]:
    """Parameters of the encoder by name; one that is shared counts once, and as encoder if any of its names does.

    Raises:
        ValueError: as `encoder_pattern`.
    """
    pattern = encoder_pattern(network, given)
    everything = network.named_parameters(remove_duplicate=False)
    ids = {id(p) for name, p in everything if re.search(pattern, name)}
    return {name: p for name, p in network.named_parameters() if id(p) in ids}


def _found(network: nn.Module) -> str:
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, nn.Module) and next(encoder.parameters(), None) is not None:
        return r"^encoder\."
    classes = (f"{c.__module__}.{c.__qualname__}" for c in type(network).__mro__)
    return next((KNOWN[name] for name in classes if name in KNOWN), "")
