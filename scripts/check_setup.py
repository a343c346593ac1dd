"""Checks that the environment holds everything that Confide needs, and says what is missing.

Runs at the end of the set-up. CrypTen itself is checked by the one package that may import it, as every worker does at start.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
# Imports and seals CrypTen; every worker begins with it.
ADAPTER = "protocols.mpc.tensor"

# Import names, where they differ from what a person would expect, stand beside the distribution's name.
NEEDED = (
    ("cryptography", "cryptography"),
    ("future", "future"),
    ("grpcio", "grpc"),
    ("grpcio-health-checking", "grpc_health.v1.health"),
    ("grpcio-status", "grpc_status.rpc_status"),
    ("grpcio-tools", "grpc_tools.protoc"),
    ("numpy", "numpy"),
    ("omegaconf", "omegaconf"),
    ("onnx", "onnx"),
    ("pandas", "pandas"),
    ("prometheus-client", "prometheus_client"),
    ("protobuf", "google.protobuf.message"),
    ("pyarrow", "pyarrow"),
    ("pydantic", "pydantic"),
    ("PyYAML", "yaml"),
    ("rfc8785", "rfc8785"),
    ("rich", "rich"),
    ("safetensors", "safetensors.numpy"),
    ("scikit-learn", "sklearn"),
    ("scipy", "scipy"),
    ("SQLAlchemy", "sqlalchemy"),
    ("structlog", "structlog"),
    ("torch", "torch"),
    ("typer", "typer"),
)


def problems() -> list[str]:
    """Returns one sentence for everything that is missing or has another version than the constraints name."""
    found = [] if sys.version_info[:2] == (3, 11) else [f"Python 3.11 is needed; this is {sys.version.split()[0]}."]
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for distribution, module in (*NEEDED, ("crypten", "")):
        try:
            version = importlib.metadata.version(distribution).split("+")[0]
            if module:
                importlib.import_module(module)
        except (importlib.metadata.PackageNotFoundError, ImportError) as error:
            found.append(f"{distribution} cannot be imported: {error}.")
            continue
        wanted = pins.get(re.sub(r"[-_.]+", "-", distribution).lower(), "")
        if version != wanted:
            found.append(f"{distribution} {version} is installed; constraints.txt names {wanted or 'no version'}.")
    return found or _adapter_problems()


def _adapter_problems() -> list[str]:
    try:
        from protocols.errors import ConfideError
    except ImportError as error:
        return [f"Confide itself cannot be imported: {error}."]
    try:
        importlib.import_module(ADAPTER)
    except (ConfideError, ImportError) as error:
        return [f"CrypTen does not start: {error}"]
    return []


def main() -> int:
    """Prints what is missing; the exit status is 0 when nothing is."""
    found = problems()
    for sentence in found:
        print(f"setup: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
