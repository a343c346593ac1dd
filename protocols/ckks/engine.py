"""The adapter to SEAL: the one module that imports `tenseal`, and of it the SEAL bindings alone.

TenSEAL's own tensors, contexts and messages are not used: they compute wrong results with biases, leak weights in unused slots
and die on crafted messages. SEAL's bindings save and load by path only, hence memory files (never the disk).

SEAL holds Python's global lock while it computes: whoever serves runs engines in worker processes. SEAL draws its own
randomness (BLAKE2xb, seeded by the operating system).

Levels: a ciphertext at level l has the first l + 1 data primes; a rescale drops the last. `encode` never returns the zero
polynomial, since SEAL refuses products that would be transparent, and a layer with weights that are zero must neither fail nor be
told apart: such a plaintext holds 1/scale in every slot, far below the error of encoding.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.ckks import seal_format
from protocols.ckks.key_manifest import KeyManifest, key_primes_at, public_key_primes
from protocols.ckks.key_material import KeyMaterial, SeededCiphertext, SeededHalf
from protocols.ckks.opaque import Ciphertext as Ciphertext
from protocols.ckks.opaque import EvaluationKeys as EvaluationKeys
from protocols.ckks.opaque import Plaintext as Plaintext
from protocols.ckks.opaque import PublicKey as PublicKey
from protocols.ckks.opaque import SecretKey as SecretKey
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.seal_format import CiphertextForm, Residues


class Engine:
    """SEAL at one parameter set."""

    def __init__(self, parameters: ParameterSet) -> None:
        """Starts SEAL.

        Raises:
            RuntimeError: this SEAL chooses other primes or refuses the set: the set-up is not the pinned one.
        """
        self.parameters: Final = parameters
        created = seal.CoeffModulus.Create(parameters.ring_degree, [*parameters.data_bits, parameters.special_bits])
        if tuple(prime.value() for prime in created) != parameters.key_primes:
            raise RuntimeError(f"SEAL chooses other primes for {parameters.name} than this version of Confide has pinned")
        chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        chosen.set_poly_modulus_degree(parameters.ring_degree)
        chosen.set_coeff_modulus(created)
        self._context = seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self._context.parameters_set():
            raise RuntimeError(f"SEAL refuses {parameters.name}: {self._context.parameters_error_message()}")
        self._encoder = seal.CKKSEncoder(self._context)
        self._evaluator = seal.Evaluator(self._context)
        ids, data = [], self._context.first_context_data()
        while data is not None:
            ids.append(data.parms_id())
            data = data.next_context_data()
        self._ids: list[list[int]] = ids[::-1]  # by level
        self._key_id = _id_bytes(self._context.key_parms_id())
        self._id_bytes = [_id_bytes(each) for each in self._ids]

    # --- plaintexts

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> Plaintext:
        """Encodes `(slots,) float64` at a level and scale."""
        if values.shape != (self.parameters.slots,):
            raise ValueError(f"{values.shape} values where {self.parameters.slots} slots are")
        plaintext = seal.Plaintext()
        self._encoder.encode(values.tolist(), self._ids[level], scale, plaintext)
        return self._not_zero(plaintext, level, scale)

    def encode_complex(self, values: NDArray[np.complex128], level: int, scale: float) -> Plaintext:
        """Encodes `(slots,) complex128`: with both halves of every slot, every polynomial can be reached."""
        plaintext = seal.Plaintext()
        self._encoder.encode(values.tolist(), self._ids[level], scale, plaintext)
        return self._not_zero(plaintext, level, scale)

    def encode_constant(self, value: float, level: int, scale: float) -> Plaintext:
        """Encodes the same number for every slot, which is exact to 1/scale and faster than `encode`."""
        plaintext = seal.Plaintext()
        self._encoder.encode(float(value), self._ids[level], scale, plaintext)
        return self._not_zero(plaintext, level, scale)

    def plaintext_residues(self, plaintext: Plaintext) -> Residues:
        """Returns `(primes, N) uint64` of a plaintext in NTT form, read-only."""
        level = self._ids.index(plaintext.raw.parms_id())
        return seal_format.read_plaintext(_save(plaintext.raw), level + 1)

    def plaintext_from_residues(self, residues: Residues, scale: float) -> Plaintext:
        """Returns the plaintext with these residues `(primes, N) uint64`; the number of primes says the level."""
        data = seal_format.write_plaintext(self._id_bytes[len(residues) - 1], residues, scale)
        return Plaintext(self._load(seal.Plaintext(), data))

    def decode(self, plaintext: Plaintext) -> NDArray[np.float64]:
        """Returns the real half of every slot, `(slots,) float64`."""
        return np.array(self._encoder.decode_double(plaintext.raw))

    def _not_zero(self, plaintext: Any, level: int, scale: float) -> Plaintext:
        if plaintext.is_zero():
            self._encoder.encode(1.0 / scale, self._ids[level], scale, plaintext)
        return Plaintext(plaintext)

    # --- ciphertexts

    def copy(self, ciphertext: Ciphertext) -> Ciphertext:
        """Returns a copy."""
        return self.drop_to(ciphertext, self.level_of(ciphertext))

    def level_of(self, ciphertext: Ciphertext) -> int:
        """Returns the level."""
        return int(ciphertext.raw.coeff_modulus_size()) - 1

    def parts_of(self, ciphertext: Ciphertext) -> int:
        """Returns the number of parts: 2, or 3 after a product that was not relinearised."""
        return int(ciphertext.raw.size())

    def scale_of(self, operand: Ciphertext | Plaintext) -> float:
        """Returns the scale."""
        return float(operand.raw.scale)

    def set_scale(self, ciphertext: Ciphertext, scale: float) -> None:
        """Declares the scale, for a caller that knows it exactly where SEAL's product of floats is rounded."""
        ciphertext.raw.scale = scale

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Returns the product with a plaintext of the same level; scales multiply."""
        product = seal.Ciphertext()
        self._evaluator.multiply_plain(ciphertext.raw, plaintext.raw, product)
        return Ciphertext(product)

    def add_inplace(self, left: Ciphertext, right: Ciphertext) -> None:
        """Adds `right` to `left`; level and scale must agree."""
        self._evaluator.add_inplace(left.raw, right.raw)

    def sub_inplace(self, left: Ciphertext, right: Ciphertext) -> None:
        """Subtracts `right` from `left`; level and scale must agree."""
        self._evaluator.sub_inplace(left.raw, right.raw)

    def negate_inplace(self, ciphertext: Ciphertext) -> None:
        """Changes the sign."""
        self._evaluator.negate_inplace(ciphertext.raw)

    def add_plain_inplace(self, ciphertext: Ciphertext, plaintext: Plaintext) -> None:
        """Adds a plaintext of the same level and scale."""
        self._evaluator.add_plain_inplace(ciphertext.raw, plaintext.raw)

    def rotate(self, ciphertext: Ciphertext, step: int, keys: EvaluationKeys) -> Ciphertext:
        """Returns the slots moved: slot i + step comes to slot i.

        The step must be in the keys' manifest at this level or a higher one: a key that is missing raises ValueError, and is
        never pieced together from others, which would cost several times as much.
        """
        element = keys.elements.get(self.level_of(ciphertext) << 32 | step)
        if element is None:
            raise ValueError(f"the key manifest has no rotation by {step} at level {self.level_of(ciphertext)}")
        rotated = seal.Ciphertext()
        self._evaluator.apply_galois(ciphertext.raw, element, keys.galois, rotated)
        return Ciphertext(rotated)

    def square(self, ciphertext: Ciphertext, keys: EvaluationKeys) -> Ciphertext:
        """Returns the relinearised square, not rescaled."""
        product = seal.Ciphertext()
        self._evaluator.square(ciphertext.raw, product)
        return self._relinearised(product, keys)

    def multiply(self, left: Ciphertext, right: Ciphertext, keys: EvaluationKeys) -> Ciphertext:
        """Returns the relinearised product of two ciphertexts of the same level, not rescaled."""
        return self._relinearised(self.multiply_raw(left, right).raw, keys)

    def multiply_raw(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Returns the product with its three parts."""
        product = seal.Ciphertext()
        self._evaluator.multiply(left.raw, right.raw, product)
        return Ciphertext(product)

    def _relinearised(self, product: Any, keys: EvaluationKeys) -> Ciphertext:
        highest = keys.manifest.relinearise_level
        if highest is None or int(product.coeff_modulus_size()) - 1 > highest:
            raise ValueError("the key manifest has no relinearisation key for this level")
        self._evaluator.relinearize_inplace(product, keys.relinearise)
        return Ciphertext(product)

    def rescale(self, ciphertext: Ciphertext) -> None:
        """Divides by the last prime and drops it: one level down, the scale divided by that prime."""
        self._evaluator.rescale_to_next_inplace(ciphertext.raw)

    def drop_to(self, ciphertext: Ciphertext, level: int) -> Ciphertext:
        """Returns the same value and scale at a lower level."""
        lower = seal.Ciphertext()
        self._evaluator.mod_switch_to(ciphertext.raw, self._ids[level], lower)
        return Ciphertext(lower)

    def residues(self, ciphertext: Ciphertext) -> Residues:
        """Returns `(parts, primes, N) uint64` in NTT form, read-only."""
        return seal_format.read_ciphertext(_save(ciphertext.raw)).residues

    def from_residues(self, residues: Residues, scale: float) -> Ciphertext:
        """Returns the ciphertext with these residues `(parts, primes, N) uint64`; the number of primes says the level.

        Raises:
            ValueError: a shape that no ciphertext has, or a residue that is not below its prime.
        """
        parts, primes, ring_degree = residues.shape
        if not 2 <= parts <= 3 or not 1 <= primes <= self.parameters.levels or ring_degree != self.parameters.ring_degree:
            raise ValueError(f"residues of shape {residues.shape} are no ciphertext of {self.parameters.name}")
        form = CiphertextForm(self._id_bytes[primes - 1], scale, residues)
        return Ciphertext(self._load(seal.Ciphertext(), seal_format.write_ciphertext(form)))

    # --- keys; secret: never leaves the querier

    def make_secret_key(self) -> SecretKey:
        """Returns a new secret key, from SEAL's randomness."""
        return self._secret_key(seal.KeyGenerator(self._context))

    def export_secret_key(self, secret: SecretKey) -> Residues:
        """Returns a secret key as residues `(key primes, N)`: secret."""
        return seal_format.read_plaintext(_save(secret.raw), self.parameters.levels + 1)

    def import_secret_key(self, residues: Residues) -> SecretKey:
        """Returns the secret key that `export_secret_key` gave."""
        data = seal_format.write_plaintext(self._key_id, residues, 1.0)
        return self._secret_key(seal.KeyGenerator(self._context, self._load(seal.SecretKey(), data)))

    def _secret_key(self, generator: Any) -> SecretKey:
        raw = generator.secret_key()
        return SecretKey(raw, seal.Encryptor(self._context, raw), seal.Decryptor(self._context, raw), generator)

    def encrypt(self, secret: SecretKey, plaintext: Plaintext) -> SeededCiphertext:
        """Encrypts under the secret key; the uniform half is a seed."""
        form = seal_format.read_ciphertext(_save(secret.encryptor.encrypt_symmetric(plaintext.raw)))
        return SeededCiphertext(form.residues.shape[1] - 1, form.scale, _half(form))

    def fresh_phase(self, secret: SecretKey, plaintext: Plaintext) -> Residues:
        """Returns message and error m + e of a fresh encryption, `(primes, N) uint64` in NTT form: secret.

        For ciphertexts whose uniform half comes from another generator than SEAL's; see `uniform_residues`.
        """
        fresh = seal.Ciphertext()
        secret.encryptor.encrypt_symmetric(plaintext.raw, fresh)
        return self.phase(secret, Ciphertext(fresh))

    def load(self, seeded: SeededCiphertext) -> Ciphertext:
        """Returns the ciphertext with its uniform half expanded from the seed.

        Raises:
            ValueError: a residue that is not below its prime.
        """
        form = CiphertextForm(self._id_bytes[seeded.level], seeded.scale, seeded.half.residues[np.newaxis], seeded.half.seed)
        return Ciphertext(self._load(seal.Ciphertext(), seal_format.write_ciphertext(form)))

    def decrypt(self, secret: SecretKey, ciphertext: Ciphertext) -> NDArray[np.float64]:
        """Returns every slot `(slots,) float64` with its key-dependent error.

        Secret: whoever gets these numbers together with the ciphertext can solve for the secret key; see `key_owner`.
        """
        return self.decode(self._decrypted(secret, ciphertext))

    def phase(self, secret: SecretKey, ciphertext: Ciphertext) -> Residues:
        """Returns message and error c0 + c1 s + c2 s^2, exact, `(primes, N) uint64` in NTT form, read-only; secret."""
        return self.plaintext_residues(self._decrypted(secret, ciphertext))

    def _decrypted(self, secret: SecretKey, ciphertext: Ciphertext) -> Plaintext:
        plaintext = seal.Plaintext()
        secret.decryptor.decrypt(ciphertext.raw, plaintext)
        return Plaintext(plaintext)

    # --- keys; public

    def make_key_material(self, secret: SecretKey, manifest: KeyManifest) -> KeyMaterial:
        """Makes exactly the keys of a manifest, each cut to the level at which it is used."""
        manifest.check(self.parameters)
        rotations: list[tuple[SeededHalf, ...]] = []
        for step, level in manifest.rotations:
            saved = seal_format.read_keys(_save(secret.generator.create_galois_keys([self._element(step)])))
            rotations.append(self._cut(saved.popitem()[1], level))
        relinearise: tuple[SeededHalf, ...] = ()
        if manifest.relinearise_level is not None:
            saved = seal_format.read_keys(_save(secret.generator.create_relin_keys()))
            relinearise = self._cut(saved[0], manifest.relinearise_level)
        public = self._public_half(secret, manifest.answer_level) if manifest.public_key else None
        return KeyMaterial(manifest, tuple(rotations), relinearise, public)

    def load_key_material(self, material: KeyMaterial) -> EvaluationKeys:
        """Loads keys into SEAL; the parts that SEAL does not read at a key's level are zero.

        Raises:
            ValueError: a residue that is not below its prime.
        """
        manifest, galois, relinearise, elements = material.manifest, seal.GaloisKeys(), seal.RelinKeys(), {}
        if manifest.rotations:
            digits = {}
            for (step, level), halves in zip(manifest.rotations, material.rotations, strict=True):
                element = self._element(step)
                digits[(element - 1) // 2] = self._filled(halves, level)
                elements.update({lower << 32 | step: element for lower in range(level + 1)})
            self._load(galois, seal_format.write_keys(self._key_id, self.parameters.ring_degree, digits))
        if manifest.relinearise_level is not None:
            filled = self._filled(material.relinearise, manifest.relinearise_level)
            self._load(relinearise, seal_format.write_keys(self._key_id, 1, {0: filled}))
        public = None if material.public_key is None else self.load_public_key(material.public_key, manifest.answer_level)
        return EvaluationKeys(manifest, galois, relinearise, public, elements)

    def make_evaluation_keys(self, secret: SecretKey, manifest: KeyManifest) -> EvaluationKeys:
        """Makes and loads the keys of a manifest: what the evaluator has after an upload."""
        return self.load_key_material(self.make_key_material(secret, manifest))

    def make_public_key(self, secret: SecretKey, level: int = 0) -> PublicKey:
        """Makes and loads a public key for encryptions of zero up to a level."""
        return self.load_public_key(self._public_half(secret, level), level)

    def load_public_key(self, half: SeededHalf, level: int) -> PublicKey:
        """Loads a public key for encryptions of zero at a level."""
        form = self._key_form(half, public_key_primes(level))
        raw = self._load(seal.PublicKey(), seal_format.write_ciphertext(form))
        return PublicKey(seal.Encryptor(self._context, raw), level)

    def encrypt_zero(self, public_key: PublicKey, level: int) -> Ciphertext:
        """Returns a fresh encryption of zero of two parts, under somebody else's public key."""
        if level != public_key.level:
            raise ValueError(f"this public key serves level {public_key.level}, not {level}")
        zero = seal.Ciphertext()
        public_key.encryptor.encrypt_zero(self._ids[level], zero)
        return Ciphertext(zero)

    def _public_half(self, secret: SecretKey, level: int) -> SeededHalf:
        form = seal_format.read_ciphertext(_save(secret.encryptor.encrypt_zero_symmetric(self._context.key_parms_id())))
        return SeededHalf(_half(form).seed, np.array(form.residues[0, list(public_key_primes(level))]))

    def _element(self, step: int) -> int:
        return pow(3, step, 2 * self.parameters.ring_degree)

    def _cut(self, digits: list[CiphertextForm], level: int) -> tuple[SeededHalf, ...]:
        primes = list(key_primes_at(self.parameters, level))
        return tuple(SeededHalf(_half(form).seed, np.array(form.residues[0, primes])) for form in digits[: level + 1])

    def _filled(self, halves: tuple[SeededHalf, ...], level: int) -> list[CiphertextForm]:
        primes = key_primes_at(self.parameters, level)
        unread = np.zeros((2, self.parameters.levels + 1, self.parameters.ring_degree), np.uint64)
        missing = CiphertextForm(self._key_id, 1.0, unread)
        return [self._key_form(half, primes) for half in halves] + [missing] * (self.parameters.top_level - level)

    def _key_form(self, half: SeededHalf, primes: tuple[int, ...]) -> CiphertextForm:
        residues = np.zeros((1, self.parameters.levels + 1, self.parameters.ring_degree), np.uint64)
        residues[0, list(primes)] = half.residues
        return CiphertextForm(self._key_id, 1.0, residues, half.seed)

    def _load(self, empty: Any, data: bytes) -> Any:
        file = os.memfd_create("seal", os.MFD_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            empty.load(self._context, f"/proc/self/fd/{file}")
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"SEAL refuses the object: {error}") from error
        finally:
            os.close(file)
        return empty


def _save(thing: Any) -> bytes:
    file = os.memfd_create("seal", os.MFD_CLOEXEC)
    try:
        thing.save(f"/proc/self/fd/{file}")
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def _half(form: CiphertextForm) -> SeededHalf:
    if form.seed is None:
        raise RuntimeError("SEAL saved without a seed where it should have saved one")
    return SeededHalf(form.seed, form.residues[0])


def _id_bytes(parms_id: list[int]) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in parms_id)
