"""Makes everything of CrypTen that would communicate, draw randomness, load or open raise, wherever it was imported to.

CrypTen's modules import its parts by name from each other, so every reference in every one of its modules is replaced.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.tensor.loader import crypten

_FUNCTIONS = {
    "crypten": (
        "init init_thread uninit is_initialized print_communication_stats reset_communication_stats manual_seed _setup_prng "
        "_sync_seeds load load_from_party save save_from_party rand bernoulli print log print_in_order "
        "trace trace_once"
    ),
    "crypten.communicator": "get _init uninit is_initialized",
    "crypten.common.rng": "generate_random_ring_element generate_kbit_random_tensor",
    "crypten.common.serial": "restricted_loads register_safe_class _safe_legacy_load _safe_load_from_bytes",
    "crypten.debug": "validate_correctness configure_logging register_validation",
    "crypten.debug.debug": "crypten_print crypten_log crypten_print_in_order",
    "crypten.mpc": "get_default_provider ttp_required run_multiprocess",
    "crypten.nn": "from_pytorch",
    "crypten.nn.onnx_converter": "from_onnx from_pytorch",
}
_CLASSES = {
    "crypten.communicator.communicator": "Communicator",
    "crypten.communicator.distributed_communicator": "DistributedCommunicator",
    "crypten.communicator.in_process_communicator": "InProcessCommunicator",
    "crypten.common.serial": "RestrictedUnpickler safe_pickle",
    "crypten.debug.debug": "MultiprocessingPdb",
    "crypten.mpc.mpc": "MPCTensor",
    "crypten.mpc.primitives.arithmetic": "ArithmeticSharedTensor",
    "crypten.mpc.primitives.binary": "BinarySharedTensor",
    "crypten.mpc.provider.provider": "TupleProvider",
    "crypten.mpc.provider.tfp_provider": "TrustedFirstParty",
    "crypten.mpc.provider.ttp_provider": "TrustedThirdParty TTPClient TTPServer",
    "crypten.mpc.provider.homomorphic_provider": "HomomorphicProvider",
}
AUTOGRAD: ContextVar[bool] = ContextVar("autograd", default=True)


class _Sealed:
    """Stands where something of CrypTen stood: calling it, or asking it for anything, raises."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise _sealed(object.__getattribute__(self, "_name"))

    def __getattr__(self, attribute: str) -> NoReturn:
        # An AttributeError would let hasattr() and pickling go on quietly; special lookups still expect one.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise _sealed(f"{object.__getattribute__(self, '_name')}.{attribute}")

    def __setattr__(self, attribute: str, _value: object) -> NoReturn:
        raise _sealed(f"{object.__getattribute__(self, '_name')}.{attribute}")


class FrozenConfig:
    """CrypTen's configuration as a plain object that cannot change; reading it costs an attribute access."""

    def __init__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.__dict__[name] = FrozenConfig(value) if isinstance(value, dict) else value

    def __getitem__(self, name: str) -> Any:
        found: Any = self
        for key in name.split("."):
            found = getattr(found, key)
        return found

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise _sealed(f"configuration ({name})")

    def __setitem__(self, name: str, _value: object) -> NoReturn:
        raise _sealed(f"configuration ({name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise _sealed(f"configuration ({name})")

    def load_config(self, *_args: object) -> NoReturn:
        """Refuses."""
        raise _sealed("configuration (load_config)")

    set_config = load_config
    temp_override = load_config


def seal() -> None:
    """Seals CrypTen; see the module. Doing it again changes nothing."""
    _freeze_configuration()
    _make_autograd_switch_local()
    for original, name in _unsafe_objects():
        _replace_everywhere(original, _Sealed(name))
        if isinstance(original, type):
            _disable_class(original, name)
    providers: dict[str, Any] = crypten.mpc.__dict__.get("__SUPPORTED_PROVIDERS", {})
    providers.clear()
    crypten.generators.clear()


def point_to_ours(replacements: Mapping[str, object]) -> None:
    """Puts functions of ours where CrypTen has its own of the same name, wherever they were imported to."""
    for name, replacement in replacements.items():
        _replace_everywhere(vars(crypten)[name], replacement)


def _freeze_configuration() -> None:
    config: Any = importlib.import_module("crypten.config").cfg
    if isinstance(config, FrozenConfig):
        return
    container: Any = importlib.import_module("omegaconf").OmegaConf.to_container(config.config)
    # A dozen modules imported the object by name: it changes its class, not its name.
    object.__setattr__(config, "__dict__", FrozenConfig(container).__dict__)
    object.__setattr__(config, "__class__", FrozenConfig)


def _make_autograd_switch_local() -> None:
    """Keeps CrypTen's autograd switch by thread: it is a class attribute, and parties in threads would flip each other's."""
    metaclass = type(crypten.CrypTensor)
    if "AUTOGRAD_ENABLED" not in vars(metaclass):
        type.__setattr__(metaclass, "AUTOGRAD_ENABLED", property(lambda _cls: AUTOGRAD.get(), _switch_autograd))


def _switch_autograd(_cls: type, mode: bool) -> None:
    AUTOGRAD.set(bool(mode))


def _unsafe_objects() -> Iterator[tuple[object, str]]:
    for table in (_FUNCTIONS, _CLASSES):
        for module_name, names in table.items():
            module = importlib.import_module(module_name)
            for name in names.split():
                original = vars(module).get(name)
                if original is not None and not isinstance(original, _Sealed):
                    yield original, f"{module_name}.{name}"


def _replace_everywhere(original: object, replacement: object) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] == "crypten":
            for name, value in list(vars(module).items()):
                if value is original:
                    setattr(module, name, replacement)


def _disable_class(original: type, name: str) -> None:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise _sealed(name)

    for method in ("__new__", "__init__", "initialize", "get", "_init", "_launch", "generate_additive_triple", "find_class"):
        if method.startswith("__") or hasattr(original, method):
            setattr(original, method, staticmethod(refuse) if method != "__init__" else refuse)


def _sealed(name: str) -> ConfideError:
    return ConfideError(ErrorCode.INTERNAL, f"{name} of CrypTen is sealed: sessions use their own links, dealer and randomness")
