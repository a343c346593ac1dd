"""The generator of wire messages: importable result, and a check that sees every kind of drift."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, load_script

generate_wire = load_script("generate_wire")

COMMON = 'syntax = "proto3";\npackage confide.v1;\nmessage Name { string value = 1; }\n'
GREETING = (
    'syntax = "proto3";\npackage confide.v1;\nimport "confide/v1/name.proto";\n'
    'import "google/protobuf/duration.proto";\n'
    "message Greeting { Name name = 1; google.protobuf.Duration since = 2; }\n"
)


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    folder = tmp_path / "proto" / "confide" / "v1"
    folder.mkdir(parents=True)
    (folder / "name.proto").write_text(COMMON)
    (folder / "greeting.proto").write_text(GREETING)
    return tmp_path / "proto"


def test_generation_imports_are_placed_in_the_tree(proto: Path, tmp_path: Path) -> None:
    generate_wire.generate(proto, tmp_path / "out")
    for name in ("greeting_pb2.py", "greeting_pb2.pyi"):
        text = (tmp_path / "out" / "confide" / "v1" / name).read_text()
        assert "from parties.wire.generated.confide.v1 import name_pb2" in text
        assert "\nfrom confide" not in text
    assert (tmp_path / "out" / "confide" / "v1" / "__init__.py").is_file()
    assert not list((tmp_path / "out").rglob("*_grpc.py"))


def test_check_sees_missing_left_over_and_different_files(proto: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--proto", str(proto), "--out", str(out)]
    assert generate_wire.main(arguments) == 0
    assert generate_wire.main([*arguments, "--check"]) == 0
    (out / "confide" / "v1" / "name_pb2.py").unlink()
    (out / "confide" / "v1" / "old_pb2.py").touch()
    (out / "confide" / "v1" / "greeting_pb2.pyi").write_text("")
    fresh = tmp_path / "fresh"
    generate_wire.generate(proto, fresh)
    assert generate_wire.differences(fresh, out) == [
        "confide/v1/name_pb2.py is missing",
        "confide/v1/old_pb2.py has no .proto file any more",
        "confide/v1/greeting_pb2.pyi differs",
    ]
    assert generate_wire.main([*arguments, "--check"]) == 1


def test_generation_of_a_wrong_file_names_it(proto: Path, tmp_path: Path) -> None:
    (proto / "confide" / "v1" / "name.proto").write_text("nonsense")
    with pytest.raises(generate_wire.GenerationError, match=r"name\.proto"):
        generate_wire.generate(proto, tmp_path / "out")


def test_generated_modules_of_the_tree_import_together() -> None:
    names = [path.stem for path in (ROOT / "parties/wire/generated/confide/v1").glob("*_pb2.py")]
    code = "\n".join(f"import parties.wire.generated.confide.v1.{name}" for name in names)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert names
    assert result.returncode == 0, result.stderr
