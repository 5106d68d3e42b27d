"""Studies of many small jobs: in parallel processes, resumable after a kill, one tidy CSV."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from transfer_risk.callbacks import Tell
from transfer_risk.files import write_text

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Work = Callable[[Mapping[str, Any]], list[Row]]


def run_jobs(
    jobs: Sequence[Mapping[str, Any]],
    work: Work,
    path: str | Path,
    *,
    processes: int = 1,
    progress: Tell | None = None,
) -> pd.DataFrame:
    """Table of the rows of all jobs, in their order; written to a CSV after each job, from which a later call goes on.

    Args:
        jobs: What identifies each job: names and plain values. Its rows start with these columns.
        work: A function at the top of a module, which returns the other columns of each row; all jobs give the same.
        path: CSV. Jobs whose rows it holds are not done again; rows of other jobs, of the same columns, stay in it.
        processes: Each with one thread of torch.
        progress: Called with a line for each job that ends.

    Raises:
        ValueError: if a job gives other columns than the rows that the CSV holds, which another version wrote.
        RuntimeError: naming the first job that failed; the others' rows are kept.
    """
    import pandas as pd

    there = _read(Path(path))
    done = _by_start(there)
    keys = [_key(job) for job in jobs]
    rows = {key: done[key] for key in keys if key in done}
    asked = {id(row) for block in rows.values() for row in block}
    others = [row for row in there if id(row) not in asked]
    pending = [job for job, key in zip(jobs, keys, strict=True) if key not in rows]

    def own() -> list[Row]:
        return [row for key in keys for row in rows.get(key, [])]

    def save() -> None:
        made = own()
        kept = [row for row in others if not made or list(row) == list(made[0])]
        write_text(path, _csv(made + kept))

    save()
    failed: list[str] = []
    start, left = time.monotonic(), len(pending)
    with closing(_outcomes(pending, work, processes)) as outcomes:
        for job, made in outcomes:
            if isinstance(made, BaseException):
                left -= 1
                failed.append(f"({_words(job)}): {_reason(made)}")
                continue
            rows[_key(job)] = [dict(_key(job)) | _text(row) for row in made]
            _refuse_mixture(path, rows.values())
            save()
            left -= 1
            if progress:
                minutes = (time.monotonic() - start) / 60 / (len(pending) - left) * left
                progress(f"{len(rows)} of {len(jobs)}, {minutes:.0f} min left: {_words(job)}")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} jobs failed; the first {failed[0]}")
    if not rows:
        return pd.DataFrame()
    return pd.read_csv(io.StringIO(_csv(own())), keep_default_na=False, na_values=[""])


def _refuse_mixture(path: str | Path, blocks: Iterable[Sequence[Row]]) -> None:
    """Raise ValueError unless the rows of all jobs have the same columns."""
    kinds = list(dict.fromkeys(tuple(block[0]) for block in blocks if block))
    if len(kinds) > 1:
        raise ValueError(
            f"{path}: holds rows with the columns {', '.join(kinds[0])}, and new ones have {', '.join(kinds[1])}; move the "
            "file away to do its jobs again"
        )


def _outcomes(
    jobs: Sequence[Mapping[str, Any]], work: Work, processes: int
) -> Generator[tuple[Mapping[str, Any], list[Row] | BaseException]]:
    """Each job with its rows, or with what went wrong, as they end; one process is this one."""
    if processes == 1:
        with _one_thread_here():
            for job in jobs:
                try:
                    yield job, work(job)
                except Exception as error:
                    yield job, error
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker) as pool:
        futures: dict[Future[list[Row]], Mapping[str, Any]] = {
            pool.submit(work, job): job for job in jobs
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.exception() or future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_here() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin_worker() -> None:
    """One thread of torch; and an end when the study is killed, whose workers would go on otherwise."""
    import torch

    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _key(job: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in job.items())


def _words(job: Mapping[str, Any]) -> str:
    """What a reader wants to see of a job: no folders, no tables, nothing empty."""
    words = [str(value) for value in job.values()]
    return ", ".join(w for w in words if w and "/" not in w and not w.startswith("{"))


def _reason(error: BaseException) -> str:
    """What went wrong, with the kind of error where its text alone would be a riddle."""
    told = isinstance(error, (ValueError, RuntimeError, OSError)) and str(error)
    return str(error) if told else f"{type(error).__name__} {error}".rstrip()


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _by_start(rows: Iterable[Row]) -> dict[tuple[tuple[str, str], ...], list[Row]]:
    """Rows by every leading set of columns, so that a job finds its own whatever its columns are."""
    found: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        cells = tuple(row.items())
        for count in range(1, len(cells) + 1):
            found.setdefault(cells[:count], []).append(row)
    return found


def _text(row: Row) -> Row:
    return {k: _cell(v) for k, v in row.items()}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
