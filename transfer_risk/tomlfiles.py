"""TOML files: read with errors that name them, and no key passed over without a word."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any


def read_toml(path: str | Path, *, format: int | None = 1) -> dict[str, Any]:
    """Table of a TOML file of format 1, or of one without a format (None).

    Raises:
        ValueError: if the file is missing, no TOML, or of another format; names file and remedy.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: is no readable TOML file ({error})") from None
    if format is not None and table.get("format") != format:
        raise ValueError(
            f"{path}: format must be {format}; got {table.get('format')!r}. Write 'format = {format}' at the top"
        )
    return table


def refuse_unknown(keys: Collection[str], known: Collection[str], where: str) -> None:
    """Raise ValueError where a key is unknown: a misspelt one would do nothing.

    Args:
        keys: Those that were given.
        known: Those that there are.
        where: What has them, such as "task.toml: [split]"; the message starts with it.
    """
    if unknown := [k for k in keys if k not in known]:
        raise ValueError(
            f"{where} does not know {', '.join(unknown)}; it may have {', '.join(known)}"
        )
