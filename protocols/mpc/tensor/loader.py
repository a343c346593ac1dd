"""Imports CrypTen on the torch that we pin, or says what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from importlib import metadata
from types import ModuleType
from typing import Any

from protocols.errors import ConfideError, ErrorCode

CRYPTEN_VERSION = "0.4.1"
_MOVED = "torch.onnx._internal.registration"
_MOVED_TO = "torch.onnx._internal.torchscript_exporter.registration"
_GONE = "torch.onnx.symbolic_registry"


def load_crypten() -> ModuleType:
    """Returns the crypten module.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): not installed, another version, or a missing dependency.
    """
    try:
        version = metadata.version("crypten")
    except metadata.PackageNotFoundError as error:
        raise _incomplete(f"CrypTen is not installed; version {CRYPTEN_VERSION} is needed") from error
    if version != CRYPTEN_VERSION:
        raise _incomplete(f"CrypTen {version} is installed; version {CRYPTEN_VERSION} is needed")
    _alias_moved_modules()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module("crypten")
        except ImportError as error:
            raise _incomplete(f"CrypTen cannot be imported: {error}") from error
    _keep_compiler_out(module)
    return module


def _keep_compiler_out(crypten: Any) -> None:
    # torch's optimisers import its compiler when they are made, only to tell it to leave them alone: seconds, and much memory.
    optimiser = importlib.import_module("torch.optim").Optimizer
    crypten.optim.Optimizer.__init__ = inspect.unwrap(optimiser.__init__)


def _alias_moved_modules() -> None:
    # CrypTen imports two private modules of older torch versions for its ONNX converter, which nobody uses here.
    importlib.import_module("torch.onnx")
    sys.modules.setdefault(_GONE, ModuleType(_GONE))
    if importlib.util.find_spec(_MOVED) is None and _MOVED not in sys.modules:
        try:
            sys.modules[_MOVED] = importlib.import_module(_MOVED_TO)
        except ImportError as error:
            raise _incomplete(f"this torch has no module {_MOVED_TO}") from error


def _incomplete(what: str) -> ConfideError:
    return ConfideError(ErrorCode.SETUP_INCOMPLETE, what)


# CrypTen has no type information.
crypten: Any = load_crypten()
