"""What torch.export.load would run of a .pt2 archive beside tensor operators: found by reading it as data.

Torch unpickles parts of such an archive, evaluates its expressions of sizes, compiles its guards and writes names into
generated code. So only what is known to be plain passes here: tensor operators, arithmetic, words.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from transfer_risk.adapters.inspection import (
    FILE_OPERATORS,
    foreign_globals,
    plainly_loaded,
    repeated,
)

RAW = re.compile(r"[^/]+/data/(weights/weight_\d+|constants/tensor_\d+)")
TEXT = re.compile(r"[^/]+/(archive_format|archive_version|byteorder|version|\.data/[\w.]+)")
TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)|"
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|and_|or_|not_|eq|ne|lt|le|gt|ge)"
)
SYMBOLIC = {
    *("Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod"),
    *("Abs", "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan"),
    *("StrictLessThan", "And", "Or", "Not", "Eq", "Ne", "Ge", "Gt", "Le", "Lt", "FloorDiv"),
    *("CleanDiv", "CeilDiv", "PythonMod", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv"),
    *("CeilToInt", "FloorToInt", "TruncToInt", "ToFloat", "PowByNatural"),
}
PLAIN = (
    *(
        ast.Expression,
        ast.Call,
        ast.Name,
        ast.Constant,
        ast.keyword,
        ast.Load,
        ast.Subscript,
        ast.Attribute,
    ),
    *(
        ast.BinOp,
        ast.UnaryOp,
        ast.BoolOp,
        ast.Compare,
        ast.operator,
        ast.unaryop,
        ast.boolop,
        ast.cmpop,
    ),
)
WORD = re.compile(r"[\w.+*:\-]*")
SPECIFICATION = re.compile(r"[\w\s.,:{}\[\]\"\\\-]*")
UNREAD = ("metadata", "torch_version")


def export_dangers(path: Path) -> list[str]:
    """What an archive holds that is no plain tensor operation, in words; nothing for an ordinary program."""
    found: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        if repeated(archive):
            return ["two records of one name"]
        for name in archive.namelist():
            record = archive.read(name)
            if name.endswith(".json"):
                found |= set(_table_dangers(record))
            elif not (RAW.fullmatch(name) or TEXT.fullmatch(name)):
                found |= set(_record_dangers(name, record))
    return sorted(found)


def _table_dangers(record: bytes) -> Iterator[str]:
    try:
        table = json.loads(record)
    except ValueError:
        yield "a table that cannot be read"
        return
    yield from _dangers(table, "")


def _record_dangers(name: str, record: bytes) -> Iterator[str]:
    """What a record that torch might unpickle would import; nothing if torch can read it as tensors alone."""
    if not record:
        return
    try:
        plainly_loaded(io.BytesIO(record))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        if zipfile.is_zipfile(io.BytesIO(record)):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(record))
        else:
            names = list(foreign_globals(record))
        yield from names or [f"the record {name.partition('/')[2]}"]


def _dangers(value: Any, key: str) -> Iterator[str]:
    """Everything in a table that is no operator, arithmetic expression or word."""
    if isinstance(value, dict):
        if value.get("use_pickle") or str(value.get("path_name")).startswith(("custom", "opaque")):
            yield f"a pickled record {value.get('path_name')}"
        for name, inner in value.items():
            if name not in UNREAD:
                yield from _dangers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _dangers(inner, key)
    elif isinstance(value, str) and not _is_plain(value, key):
        yield f"{key} {value[:80]!r}" if key != "target" else value


def _is_plain(text: str, key: str) -> bool:
    if key == "target":
        operator = text.split(".")[3] if text.startswith("torch.ops.aten.") else ""
        return bool(TARGETS.fullmatch(text)) and operator not in FILE_OPERATORS
    if key in ("expr_str", "guards_code"):
        return _is_arithmetic(text)
    return bool((SPECIFICATION if key in ("in_spec", "out_spec") else WORD).fullmatch(text))


def _is_arithmetic(expression: str) -> bool:
    """Whether an expression has no calls but those of symbolic arithmetic and of `size()`, and no strings but words."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except SyntaxError:
        return False
    calls = [n.func for n in nodes if isinstance(n, ast.Call)]
    words = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return (
        all(isinstance(n, PLAIN) for n in nodes)
        and all(n.attr == "size" for n in nodes if isinstance(n, ast.Attribute))
        and all(
            isinstance(f, ast.Attribute) or (isinstance(f, ast.Name) and f.id in SYMBOLIC)
            for f in calls
        )
        and all(re.fullmatch(r"\w+", w) for w in words)
    )
