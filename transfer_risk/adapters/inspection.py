"""What a model file is, and what would run if it were loaded: found by reading it as data."""

from __future__ import annotations

import ast
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

FILE_OPERATORS = ("from_file", "save", "load", "_save", "_load")
EXPORTED_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)|"
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|and_|or_|not_|eq|ne|lt|le|gt|ge)"
)
SYMBOLIC = {
    *("Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "Equality", "Unequality"),
    *("GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And", "Or", "Not", "Eq", "Ne", "Ge", "Le"),
    *("FloorDiv", "CleanDiv", "CeilDiv", "PythonMod", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "CeilToInt"),
    *("FloorToInt", "TruncToInt", "ToFloat", "Gt", "Lt", "PowByNatural", "int_oo", "oo", "true", "false"),
}  # fmt: skip
PLAIN = (
    ast.Expression,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.keyword,
    ast.Load,
    ast.UnaryOp,
    ast.USub,
    ast.BinOp,
)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.cmpop)  # fmt: skip


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


def unsafe_globals(path: Path) -> list[str]:
    """What a pickle (torch.save, old or new) would import that is no part of plain tensors: names as module.name."""
    if zipfile.is_zipfile(path):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    return sorted(n for n in _globals(path.read_bytes()) if not _harmless(n))


def script_dangers(path: Path) -> list[str]:
    """Operators that read or write files in a TorchScript archive's code."""
    pattern = re.compile(rf"\b(?:torch|aten|ops\.\w+)\.({'|'.join(FILE_OPERATORS)})\(")
    with zipfile.ZipFile(path) as archive:
        code = [
            archive.read(n).decode(errors="replace")
            for n in archive.namelist()
            if n.endswith(".py")
        ]
    return sorted({f"torch.{name}" for text in code for name in pattern.findall(text)})


def export_dangers(path: Path) -> list[str]:
    """What torch.export.load would unpickle, evaluate or call in an archive that is no plain tensor operation."""
    found: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            record = archive.read(name)
            if name.endswith(".json"):
                found |= set(_graph_dangers(json.loads(record)))
            elif zipfile.is_zipfile(io.BytesIO(record)):
                found |= set(
                    torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(record))
                )
            elif re.search(r"(^|/)(custom_obj|opaque_obj)[^/]*$", name):
                found.add(f"a pickled object {name.rpartition('/')[2]}")
            elif record[:1] == b"\x80" and "/weights/weight_" not in name:
                found |= {n for n in _globals(record) if not _harmless(n)}
    return sorted(found)


def _graph_dangers(value: Any) -> Iterator[str]:
    """Targets outside the tensor operators, and expressions that are no arithmetic, in a serialised program."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "target" and isinstance(inner, str):
                operator = inner.split(".")[3] if inner.startswith("torch.ops.aten.") else ""
                if not EXPORTED_TARGETS.fullmatch(inner) or operator in FILE_OPERATORS:
                    yield inner
            elif key == "expr_str" and isinstance(inner, str) and not _arithmetic(inner):
                yield f"expression {inner[:80]!r}"
            elif key == "use_pickle" and inner:
                yield f"a pickled weight {value.get('path_name')}"
            else:
                yield from _graph_dangers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _graph_dangers(inner)


def _arithmetic(expression: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except SyntaxError:
        return False
    calls = [n.func for n in nodes if isinstance(n, ast.Call)]
    names = [n.id for n in nodes if isinstance(n, ast.Name)]
    words = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return (
        all(isinstance(n, (*PLAIN, *OPERATORS)) for n in nodes)
        and all(isinstance(f, ast.Name) and f.id in SYMBOLIC for f in calls)
        and all(n in SYMBOLIC or re.fullmatch(r"[a-z]+\d+", n) for n in names)
        and all(re.fullmatch(r"\w+", w) for w in words)
    )


def _globals(data: bytes) -> set[str]:
    """Names module.name that the pickles in the data import, read without running them."""
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
        return found
    return found


def _harmless(name: str) -> bool:
    return name == "collections.OrderedDict" or bool(
        re.fullmatch(r"torch\.\w+(Storage|Tensor)|torch\._utils\._rebuild_\w+", name)
    )


def _members(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
