"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Args:
        severity: `error` (something will fail or mislead), `warning` (look at it) or `note` (good to know).
        check: Which check: reading, geometry, intensity, labels, classes, split, duplicates, source, channels, training
            data, parameters, memory.
        where: File, or field of the task file or of source.toml.
        found: What was found.
        remedy: What to do; empty for a note that asks for nothing.
    """

    severity: str
    check: str
    where: str
    found: str
    remedy: str = ""


def from_error(error: Exception, check: str, where: str) -> Finding:
    """An error as a finding; its sentence is split where the remedy begins."""
    own = isinstance(error, ValueError | OSError)  # other kinds say little without their name
    text = str(error) if own else f"{type(error).__name__}: {error}"
    found, _, remedy = text.removeprefix(f"{where}: ").partition("; ")
    return Finding("error", check, where, found, remedy or "correct or replace it")
