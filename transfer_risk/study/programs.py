"""The command line that the programs of studies and figures share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

Arguments = Mapping[str, Mapping[str, Any]]
"""Keywords of `argparse` by option."""


def program_options(
    description: str | None,
    arguments: Arguments | None = None,
    *,
    out: str = "results",
    published: Collection[str] = ("full",),
    seeds: Collection[int | None] = (),
) -> argparse.Namespace:
    """The command line of a program: `size` (smoke, quick, else full), `out` and its own arguments.

    Args:
        description: The program's docstring.
        arguments: Of the program alone.
        out: Folder for what is written, beside the program, where `--out` is not given.
        published: Sizes of which that folder holds the results; those of another size, or of `--data`, go into a folder
            of it.
        seeds: Likewise values of `--seed`, None where it is not given; any, where there are none.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.set_defaults(size="full")
    for size in ("smoke", "quick"):
        parser.add_argument(f"--{size}", dest="size", action="store_const", const=size)
    parser.add_argument("--out", type=Path, help="Folder for what is written.")
    for name, keywords in (arguments or {}).items():
        parser.add_argument(name, **keywords)
    options = parser.parse_args()
    if options.out is None:
        beside = Path(sys.argv[0]).resolve().parent / out
        own = [] if options.size in published else [options.size]
        own += ["real"] if getattr(options, "data", None) else []
        own += [f"seed-{options.seed}"] if seeds and options.seed not in seeds else []
        options.out = beside.joinpath(*own)
    return options


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an option."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {text}")
    return number


JOBS: Arguments = {
    "--processes": {"type": positive, "default": 2, "help": "At once, of one thread each."},
    "--work": {"type": Path, "help": "Folder for cohorts, sources and models; kept."},
}


def job_options(
    description: str | None,
    arguments: Arguments | None = None,
    *,
    seeds: Collection[int | None] = (),
) -> argparse.Namespace:
    """As `program_options`, with `processes` and `work`; `out` is made."""
    options = program_options(description, {**JOBS, **(arguments or {})}, seeds=seeds)
    if options.size == "smoke":
        options.processes = 1
    options.work = options.work or options.out / "work" / options.size
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def run_program(main: Callable[[], None]) -> None:
    """Run a program; what is wrong with its input becomes one sentence on stderr and exit code 1."""
    try:
        main()
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))


def tell(line: str) -> None:
    """Progress to stderr."""
    print(line, file=sys.stderr, flush=True)
