"""The Merkle tree against the published vectors of RFC 6962, and every proof of every small tree."""

import hashlib

import pytest

from governance.audit import merkle
from governance.audit.tiles import Tile, bundle_bytes, tile_bytes, tiles
from tests.support.audit_logs import node_of

# Leaves and roots of Certificate Transparency's reference implementation.
LEAVES = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", bytes(range(96, 112)).hex())
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MANY = 40


def hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(index.to_bytes(2, "big")) for index in range(count)]


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_root_of_published_leaves_is_the_published_one(size: int) -> None:
    node = node_of([merkle.leaf_hash(leaf) for leaf in LEAVES])
    assert merkle.root(size, node).hex() == ROOTS[size]


def test_leaf_and_node_hashes_have_different_prefixes() -> None:
    left, right = hashes(2)
    assert merkle.node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert merkle.node_hash(left, right) != merkle.leaf_hash(left + right)


def test_proofs_of_seven_leaves_are_those_of_the_standard() -> None:
    """RFC 6962, 2.1.3: the same letters as in its figures."""
    leaves = hashes(7)
    a, b, c, d, e, f, j = leaves
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k, l = merkle.node_hash(g, h), merkle.node_hash(i, j)  # noqa: E741
    node = node_of(leaves)
    assert merkle.inclusion_proof(0, 7, node) == (b, h, l)
    assert merkle.inclusion_proof(3, 7, node) == (c, g, l)
    assert merkle.inclusion_proof(4, 7, node) == (f, j, k)
    assert merkle.inclusion_proof(6, 7, node) == (i, k)
    assert merkle.consistency_proof(3, 7, node) == (c, d, g, l)
    assert merkle.consistency_proof(4, 7, node) == (l,)
    assert merkle.consistency_proof(6, 7, node) == (i, j, k)


def test_every_inclusion_proof_verifies_and_for_nothing_else() -> None:
    leaves = hashes(MANY)
    node = node_of(leaves)
    for size in range(1, MANY + 1):
        root = merkle.root(size, node)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, node)
            assert merkle.is_included(index, size, leaf=leaves[index], proof=proof, root=root)
            assert not merkle.is_included(index, size, leaf=leaves[index - 1], proof=proof, root=root) or size == 1
            assert not merkle.is_included(index, size, leaf=leaves[index], proof=(*proof, root), root=root)
            assert not merkle.is_included(index, size, leaf=leaves[index], proof=proof[1:], root=root) or not proof
            for other in range(size):
                assert (other == index) == merkle.is_included(other, size, leaf=leaves[index], proof=proof, root=root)


def test_every_consistency_proof_verifies_and_for_nothing_else() -> None:
    node = node_of(hashes(MANY))
    roots = [merkle.root(size, node) for size in range(MANY + 1)]
    wrong = merkle.leaf_hash(b"another")
    for new in range(MANY + 1):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, node)
            assert merkle.is_consistent(old, new, old_root=roots[old], new_root=roots[new], proof=proof)
            assert not merkle.is_consistent(old, new, old_root=wrong, new_root=roots[new], proof=proof)
            assert old == 0 or not merkle.is_consistent(old, new, old_root=roots[old], new_root=wrong, proof=proof)
            assert not merkle.is_consistent(old, new, old_root=roots[old], new_root=roots[new], proof=(*proof, wrong))
            for place in range(len(proof)):
                bad = (*proof[:place], wrong, *proof[place + 1 :])
                assert not merkle.is_consistent(old, new, old_root=roots[old], new_root=roots[new], proof=bad)


def test_proof_of_what_is_not_there_is_refused() -> None:
    node = node_of(hashes(3))
    with pytest.raises(ValueError, match="not in the tree"):
        merkle.inclusion_proof(3, 3, node)
    with pytest.raises(ValueError, match="larger"):
        merkle.consistency_proof(4, 3, node)
    assert not merkle.is_included(3, 3, leaf=bytes(32), proof=(), root=bytes(32))
    assert not merkle.is_consistent(4, 3, old_root=bytes(32), new_root=bytes(32), proof=())
    assert not merkle.is_included(0, 2, leaf=bytes(32), proof=(b"short",), root=bytes(32))


def test_tiles_are_those_of_the_specification() -> None:
    """The examples of C2SP tlog-tiles: 70,000 and 256 entries, and the path of tile 1234067."""
    found = list(tiles(70_000))
    widths = [[tile.width for tile in found if tile.level == level] for level in range(4)]
    assert widths == [[256] * 273 + [112], [256, 17], [1], []]
    assert [(tile.path, tile.width) for tile in tiles(256)] == [("tile/0/000", 256), ("tile/1/000.p/1", 1)]
    assert Tile(3, 1_234_067, 256).path == "tile/3/x001/x234/067"
    assert Tile(0, 1_234_067, 5).entries_path == "tile/entries/x001/x234/067.p/5"
    assert list(tiles(0)) == []


def test_tile_holds_the_hashes_and_a_bundle_the_entries_after_their_lengths() -> None:
    node = node_of(hashes(600))
    upper = [tile for tile in tiles(600) if tile.level == 1]
    assert [tile_bytes(tile, node) for tile in upper] == [node(8, 0) + node(8, 1)]
    assert tile_bytes(Tile(0, 2, 88), node) == b"".join(hashes(600)[512:])
    assert bundle_bytes([b"ab", b"c"]) == b"\x00\x02ab\x00\x01c"
