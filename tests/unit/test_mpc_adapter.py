"""The door to CrypTen: what works, what is refused by name, what cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import ZeroExchange
from protocols.mpc.engine import Engine
from protocols.mpc.material.context import ShapeMaterial
from protocols.mpc.tapes import RecordingTape
from protocols.mpc.tensor import SharedTensor, build_module, crypten, use_engine
from protocols.mpc.tensor import loader as loader_module
from protocols.mpc.tensor.shared_tensor import current_engine
from tests.support.mpc_world import a_model


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A dry engine, current for the test."""
    dry = Engine(index=0, parties=2, exchange=ZeroExchange(), material=ShapeMaterial(), tape=RecordingTape())
    with use_engine(dry), dry.segment(None):
        yield dry


SEALED: dict[str, Callable[[], Any]] = {
    "init": lambda: crypten.init(),
    "uninit": lambda: crypten.uninit(),
    "load": lambda: crypten.load("file"),
    "load_from_party": lambda: crypten.load_from_party("file"),
    "save": lambda: crypten.save(None, "file"),
    "manual_seed": lambda: crypten.manual_seed(1, 2, 3),
    "communicator": lambda: crypten.communicator.get(),
    "communicator class": lambda: crypten.communicator.DistributedCommunicator(),
    "communicator class method": lambda: crypten.communicator.DistributedCommunicator.initialize(0, 2),
    "threads": lambda: crypten.communicator.InProcessCommunicator(0, 2),
    "provider": lambda: crypten.mpc.get_default_provider(),
    "first party provider": lambda: crypten.mpc.provider.TrustedFirstParty(),
    "third party provider": lambda: crypten.mpc.provider.TrustedThirdParty(),
    "third party server": lambda: crypten.mpc.provider.ttp_provider.TTPServer(),
    "generator": lambda: crypten.common.rng.generate_random_ring_element((1,)),
    "generator by import": lambda: crypten.mpc.primitives.arithmetic.generate_random_ring_element((1,)),
    "arithmetic shares": lambda: crypten.mpc.primitives.ArithmeticSharedTensor(torch.ones(1)),
    "mpc tensor": lambda: crypten.mpc.MPCTensor([1.0]),
    "pickle": lambda: crypten.common.serial.restricted_loads(b""),
    "debug mode": lambda: setattr(crypten.cfg.debug, "debug_mode", True),
    "validation mode": lambda: setattr(crypten.cfg.debug, "validation_mode", True),
    "configuration": lambda: setattr(crypten.cfg, "mpc", None),
    "configuration item": lambda: crypten.cfg.__setitem__("mpc.provider", "TFP"),
    "configuration file": lambda: crypten.cfg.load_config("file"),
    "configuration override": lambda: crypten.cfg.temp_override({"debug.validation_mode": True}),
    "from_pytorch": lambda: crypten.nn.from_pytorch(None, None),
}


@pytest.mark.parametrize("name", SEALED)
def test_sealed_part_of_crypten_raises(name: str) -> None:
    with pytest.raises(ConfideError, match="of CrypTen is sealed"):
        SEALED[name]()


def test_crypten_knows_no_other_tensor_type_and_no_generator() -> None:
    assert list(crypten.CrypTensor.__CRYPTENSOR_TYPES__) == ["confide"]
    assert crypten.get_default_cryptensor_type() == "confide"
    assert crypten.generators == {}


@pytest.mark.parametrize(
    "name", ["get_plain_text", "decrypt", "reveal", "conv2d", "max_pool2d", "batchnorm", "gather", "scatter", "rand", "erf"]
)
def test_unavailable_operation_is_refused_by_name(engine: Engine, name: str) -> None:
    tensor = SharedTensor.from_public(np.ones((2, 2)), 16)
    for requires_grad in (False, True):
        tensor.requires_grad = requires_grad
        with pytest.raises(ConfideError, match=f"operation {name} is not available") as caught:
            getattr(tensor, name)()
        assert caught.value.code is ErrorCode.INVALID_MODEL


def test_model_cannot_be_decrypted_through_its_module(engine: Engine) -> None:
    parameters = {"linear.weight": SharedTensor.from_public(np.ones((1, 3)), 24)}
    module = build_module(a_model(3, bias=False), parameters, trains=False)
    with pytest.raises(ConfideError, match="get_plain_text is not available"):
        module.modules["linear"].decrypt()


def test_tensor_shows_no_value(engine: Engine) -> None:
    assert repr(SharedTensor.from_public(np.full((2, 3), 0.125), 16)) == "SharedTensor(shape=(2, 3))"
    assert float(SharedTensor.from_public(np.ones(3), 16).data.abs().sum()) == 0.0


def test_tensor_outside_a_session_is_refused() -> None:
    with pytest.raises(ConfideError, match="outside a session"):
        current_engine()
    with pytest.raises(ConfideError, match="outside a session"):
        crypten.cryptensor(torch.ones(2))


def test_linear_algebra_on_constants_is_exact(engine: Engine) -> None:
    x = SharedTensor.from_public(np.array([[1.0, -2.0], [0.5, 4.0]]), 16)
    result = ((x + 1) * 3 - x.t() / 4).sum(0).settle(18)
    expected = ((np.array([[1.0, -2.0], [0.5, 4.0]]) + 1) * 3 - np.array([[1.0, 0.5], [-2.0, 4.0]]) / 4).sum(0)
    assert (result.share / 2.0**18).tolist() == expected.tolist()


def test_autograd_switch_of_one_thread_does_not_reach_another(engine: Engine) -> None:
    import threading

    seen: list[bool] = []
    with crypten.no_grad():
        thread = threading.Thread(target=lambda: seen.append(crypten.CrypTensor.AUTOGRAD_ENABLED))
        thread.start()
        thread.join()
        assert crypten.CrypTensor.AUTOGRAD_ENABLED is False
    assert seen == [True]
    assert crypten.CrypTensor.AUTOGRAD_ENABLED is True


def test_missing_crypten_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ConfideError, match=r"CrypTen is not installed; version 0\.4\.1") as caught:
        loader_module.load_crypten()
    assert caught.value.code is ErrorCode.SETUP_INCOMPLETE


def test_other_version_of_crypten_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _name: "0.5.0")
    with pytest.raises(ConfideError, match=r"CrypTen 0\.5\.0 is installed; version 0\.4\.1 is needed"):
        loader_module.load_crypten()
