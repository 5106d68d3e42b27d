"""Files that hold code: refused with one sentence that says what was found, and nothing of them runs."""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import transfer_risk as tr
from transfer_risk.adapters.inspection import (
    kind_of,
    script_dangers,
    unsafe_globals,
)
from transfer_risk.adapters.programs import export_dangers

FIXTURES = Path(__file__).parent / "fixtures"
DESCRIPTION = 'format = 1\nchannels = ["T1"]\nclasses = ["background", "a"]\n'
TOUCH = nn.Sequential(nn.Conv2d(1, 2, 1))


class Payload:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def mark(tmp_path):
    """The file that must never be there."""
    path = tmp_path / "it_ran"
    yield path
    assert not path.exists()


def old_format(payload, path):
    torch.save(payload, path, _use_new_zipfile_serialization=False)


def plain_pickle(payload, path):
    path.write_bytes(pickle.dumps(payload, protocol=4))


def oldest_pickle(payload, path):
    path.write_bytes(b"\x80\x02" + pickle.dumps(payload, protocol=0))


WRITERS = [torch.save, old_format, plain_pickle, oldest_pickle]


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("target", ["", "monai.networks.nets:BasicUNet", "BasicUNet"])
def test_a_malicious_pickle_is_refused(tmp_path, mark, write, target):
    write({"state_dict": Payload(mark)}, tmp_path / "model.pt")
    table = (
        f'[network]\ntarget = "{target}"\n[network.arguments]\nspatial_dims = 2\n' if target else ""
    )
    (tmp_path / "source.toml").write_text(DESCRIPTION + table)
    with pytest.raises(
        ValueError,
        match=r"model.pt: is a pickle that would import posix.system.*--trust if you trust",
    ):
        tr.load_source(tmp_path / "model.pt")


def test_a_whole_network_is_a_pickle_too_and_loads_with_trust(tmp_path):
    torch.save(TOUCH, tmp_path / "net.pt")
    (tmp_path / "source.toml").write_text(DESCRIPTION)
    with pytest.raises(ValueError, match=r"would import torch.nn.modules.*save its state_dict\(\)"):
        tr.load_source(tmp_path / "net.pt")
    source = tr.load_source(tmp_path / "net.pt", trust=True)
    assert source.predict(torch.rand(1, 1, 4, 4)).shape == (1, 2, 4, 4)
    torch.save(TOUCH.state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"net.pt: holds a OrderedDict and no network; write source.toml"
    ):
        tr.load_source(tmp_path / "net.pt")


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(FIXTURES / "bundle", tmp_path / "spleen")
    return tmp_path / "spleen"


def test_a_malicious_bundle_is_refused(bundle, mark):
    torch.save(Payload(mark), bundle / "models" / "model.pt")
    with pytest.raises(
        ValueError, match=r"models/model.pt: is a pickle that would import posix.system"
    ):
        tr.load_source(bundle)


@pytest.mark.parametrize("place", ["_target_", "out_channels", "channels", "reference"])
def test_expressions_of_a_bundle_are_quoted_and_never_run(bundle, mark, place):
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    code = f"$__import__('os').system('touch {mark}')"
    if place == "channels":
        config["network_def"]["channels"] = [4, {"deep": code}]
    elif place == "reference":
        config |= {"number": "@other", "other": code}
        config["network_def"]["out_channels"] = "@number"
    else:
        config["network_def"][place] = code
    path.write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"network_def has the expression \"\$__import__\('os'\)"
    ) as error:
        tr.load_source(bundle)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_expressions_that_are_not_needed_are_ignored(bundle, mark):
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["initialize"] = [f"$__import__('os').system('touch {mark}')"]
    path.write_text(json.dumps(config))
    assert any("5 expressions ($...)" in n for n in tr.load_source(bundle).notes)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "monai.bundle.run",
        "builtins.exec",
        "monai.networks.nets.torch.load",
    ],
)
def test_targets_outside_the_networks_are_refused(bundle, mark, target):
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {
        "_target_": target,
        "command": f"touch {mark}",
        "args": f"touch {mark}",
    }
    path.write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=f"the target '{target}' is no network of monai.networks.nets"
    ):
        tr.load_source(bundle)


@pytest.mark.parametrize(
    "target", ["os:system", "subprocess:check_output", "builtins:exec", "torch:load"]
)
def test_a_callable_that_is_no_network_is_not_called_without_trust(tmp_path, mark, target):
    table = f'[network]\ntarget = "{target}"\n[network.arguments]\ncommand = "touch {mark}"\n'
    (tmp_path / "source.toml").write_text(DESCRIPTION + table)
    with pytest.raises(
        ValueError, match=f"target {target} is no class of networks .* was not called"
    ):
        tr.load_source(tmp_path)


@pytest.mark.parametrize(
    "call",
    [
        "torch.from_file({})",
        "torch . from_file ({})",
        "torch.\\\n  from_file({})",
        "(torch. # a word\n  from_file({}))",
        "ops.aten.from_file({})",
        "ops . aten. from_file\t({})",
    ],
)
@pytest.mark.parametrize("ending", [".py", ".PY"])
def test_a_script_that_touches_files_is_refused(tmp_path, mark, call, ending):
    path = FIXTURES / "exported" / "scripted.ts"
    evil = tmp_path / "evil.ts"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(evil, "w", zipfile.ZIP_STORED) as made:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("unet.py"):
                written = call.format(f'"{mark}", True, 8, dtype=0')
                line = f"    _9 = {written}\n".encode()
                head, sep, rest = data.partition(b"-> Tensor:\n")
                data = head + sep + line + rest
                assert sep
            made.writestr(name.replace(".py", ending), data)
    (tmp_path / "source.toml").write_text(DESCRIPTION)
    assert script_dangers(path) == []
    with pytest.raises(
        ValueError, match=r"evil.ts: is a TorchScript program that calls torch.from_file"
    ):
        tr.load_source(evil)


def test_a_script_with_two_records_of_one_name_is_refused(tmp_path):
    evil = tmp_path / "evil.ts"
    with (
        zipfile.ZipFile(FIXTURES / "exported" / "scripted.ts") as archive,
        zipfile.ZipFile(evil, "w", zipfile.ZIP_STORED) as made,
    ):
        for name in archive.namelist():
            made.writestr(name, archive.read(name))
        made.writestr(next(n for n in archive.namelist() if n.endswith("unet.py")).upper(), b"")
    (tmp_path / "source.toml").write_text(DESCRIPTION)
    with pytest.raises(ValueError, match="two records of the same name"):
        tr.load_source(evil)


def rewritten(tmp_path, change):
    """A copy of a torch.export program with changed records."""
    path = tmp_path / "evil.pt2"
    (tmp_path / "source.toml").write_text(DESCRIPTION)
    with (
        zipfile.ZipFile(FIXTURES / "exported" / "free.pt2") as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made,
    ):
        for name in archive.namelist():
            made.writestr(name, change(name, archive.read(name)))
    return path


def test_an_exported_program_that_would_run_code_is_refused(tmp_path, mark):
    def sample_inputs(name, data):
        if not name.endswith("sample_inputs/model.pt"):
            return data
        buffer = io.BytesIO()
        torch.save(((Payload(mark),), {}), buffer)
        return buffer.getvalue()

    def raw_pickle(name, data):
        return pickle.dumps(Payload(mark)) if name.endswith("sample_inputs/model.pt") else data

    def expression(name, data):
        code = f"__import__('os').system('touch {mark}')"
        return (
            data.replace(b"Symbol('s", f"{code} or Symbol('s".encode())
            if name.endswith("model.json")
            else data
        )

    def target(name, data):
        return data.replace(b"torch.ops.aten.convolution.default", b"torch.os.system").replace(
            b"torch.ops.aten.conv2d.default", b"torch.os.system"
        )

    def weight(name, data):
        return data.replace(b'"use_pickle": false', b'"use_pickle": true')

    def guard(name, data):
        return data.replace(
            b'"guards_code": []', f'"guards_code": ["exec({str(mark)!r})"]'.encode()
        )

    def argument(name, data):
        return data.replace(b'"forward_arg_names": ["x"]', b'"forward_arg_names": ["x=open(1)"]')

    def compiled(name, data):
        return b"\x7fELF" if name.endswith("sample_inputs/model.pt") else data

    for change, words in (
        (guard, "guards_code .exec"),
        (argument, "forward_arg_names 'x=open"),
        (compiled, "the record data/sample_inputs/model.pt"),
        (sample_inputs, "posix.system"),
        (raw_pickle, "posix.system"),
        (expression, "expr_str"),
        (target, "torch.os.system"),
        (weight, "a pickled record weight_0"),
    ):
        path = rewritten(tmp_path, change)
        with pytest.raises(
            ValueError, match=rf"evil.pt2: is a torch.export program that holds .*{words}"
        ):
            tr.load_source(path)


def test_authentic_files_hold_no_danger():
    for name in ("fixed.pt2", "free.pt2"):
        assert kind_of(FIXTURES / "exported" / name) == "export"
        assert export_dangers(FIXTURES / "exported" / name) == []
    for name in ("scripted.ts", "traced.pt"):
        assert kind_of(FIXTURES / "exported" / name) == "torchscript"
        assert script_dangers(FIXTURES / "exported" / name) == []
    assert kind_of(FIXTURES / "bundle" / "models" / "model.pt") == "pickle"
    assert unsafe_globals(FIXTURES / "bundle" / "models" / "model.pt") == []
