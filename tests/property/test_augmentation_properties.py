"""What every technique of the catalogue keeps to, whatever the rows, the parameters and the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.augmentation.catalogue import IMAGES, TECHNIQUES
from privacy.augmentation.image_technique import ImageTechnique
from privacy.augmentation.table_rows import Made, Start, TableRows, TableSurvey, TableTechnique
from privacy.augmentation.table_techniques import TABLES
from privacy.augmentation.technique import Technique
from privacy.preparation.recipes.row_randomness import RowRandomness
from protocols.secrets import SecretBytes

CELL_ULPS = 4 * np.finfo(float).eps  # two products and a sum of numbers up to 1


def parameters(technique: Technique) -> st.SearchStrategy[dict[str, float]]:
    """Settings within their bounds."""
    return st.fixed_dictionaries(
        {
            each.name: st.integers(int(each.low), int(each.high)) if each.whole else st.floats(float(each.low), float(each.high))
            for each in technique.parameters
        }
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[TableRows, NDArray[np.float64]]:
    """Rows with missing cells, of up to three classes, and the grid of their columns; cells lie on it."""
    count, features = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    drawn = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = np.array(draw(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=features, max_size=features)))
    grid = np.where(steps > 0, 2 / np.maximum(steps, 1), 0.0)
    cells = drawn.uniform(-1, 1, (count, features))
    cells = np.where(grid > 0, np.rint((cells + 1) / np.where(grid > 0, grid, 1)) * grid - 1, cells)
    cells[1:][drawn.random((count - 1, features)) < 0.2] = np.nan
    return TableRows(np.arange(1, count + 1), np.clip(cells, -1, 1), drawn.integers(0, 3, count)), grid


def run(technique: TableTechnique, rows: TableRows, grid: NDArray[np.float64], given: dict[str, float], seed: int) -> list[Made]:
    survey = TableSurvey(rows.features.shape[1])
    survey.see(rows)
    draws = RowRandomness(SecretBytes(seed.to_bytes(32, "little")), technique.name)
    return list(technique.begin(Start(given, 3, draws, grid, survey))(rows))


@pytest.mark.parametrize("technique", TABLES, ids=lambda technique: technique.name)
@given(data=st.data())
@settings(max_examples=40)
def test_made_cells_stay_in_range_and_on_the_grid(technique: TableTechnique, data: st.DataObject) -> None:
    rows, grid = data.draw(tables())
    given_settings, seed = data.draw(parameters(technique)), data.draw(st.integers(0, 2**32 - 1))
    before = rows.features.copy()
    copies = run(technique, rows, grid, given_settings, seed)
    again = run(technique, rows, grid, given_settings, seed)
    assert np.array_equal(rows.features, before, equal_nan=True)  # the rows themselves are never touched
    for made, same in zip(copies, again, strict=True):
        assert made.features.shape == rows.features.shape
        assert np.array_equal(made.features, same.features, equal_nan=True)
        assert np.array_equal(made.kept, same.kept)
        cells = made.features[made.kept]
        present = ~np.isnan(cells)
        assert (np.abs(cells[present]) <= 1).all()
        if technique.changes_cells:
            places = (cells + 1) / np.where(grid > 0, grid, np.inf)
            assert np.abs(np.where(present, places - np.rint(places), 0)).max(initial=0) < 1e-9
        else:
            assert np.array_equal(cells, rows.features[made.kept], equal_nan=True)
        if technique.name == "imputation" and not np.isnan(rows.features).all(axis=0).any():
            assert present.all()


@given(table=tables(), share=st.floats(0, 0.5), seed=st.integers(0, 2**32 - 1))
def test_mixup_lies_between_a_row_and_one_other_of_its_class_and_no_row_serves_twice(
    table: tuple[TableRows, NDArray[np.float64]], share: float, seed: int
) -> None:
    rows, _ = table
    anywhere = np.zeros(rows.features.shape[1])
    served: list[int] = []
    for label in range(3):
        places = np.flatnonzero(rows.labels == label).tolist()
        served += places[:-1]
    assert len(set(served)) == len(served)
    for made in run(TECHNIQUES["mixup"], rows, anywhere, {"share": share}, seed):  # type: ignore[arg-type]
        for place in np.flatnonzero(made.kept).tolist():
            before = [row for row in range(place) if rows.labels[row] == rows.labels[place]]
            own, other, cell = rows.features[place], rows.features[before[-1]], made.features[place]
            missing = np.isnan(own) | np.isnan(other)
            assert np.array_equal(np.isnan(cell), missing)
            moved = np.abs(cell - own)[~missing]
            assert (moved <= share * np.abs(other - own)[~missing] + CELL_ULPS).all()
        assert made.kept.sum() == len(served)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_masking_and_jitter_do_as_much_as_they_say(seed: int) -> None:
    rows = TableRows(np.arange(1, 2001), np.full((2000, 2), 0.7), np.zeros(2000, np.int64))
    masked = np.concatenate([made.features for made in run(TABLES[0], rows, np.zeros(2), {"share": 0.3}, seed)])
    # A share of 12,000 independent draws: six deviations, so a failure by chance is one in 10^9.
    assert abs((masked == 0).mean() - 0.3) < 6 * (0.3 * 0.7 / 12_000) ** 0.5
    moved = np.concatenate([made.features for made in run(TABLES[1], rows, np.zeros(2), {"width": 0.2}, seed)]) - 0.7
    assert np.abs(moved).max() <= 0.2 + CELL_ULPS
    assert abs(moved.mean()) < 6 * 0.2 / 3**0.5 / 12_000**0.5
    assert np.abs(moved).max() > 0.19  # 12,000 uniform draws all below: 0.95^12000


def images(seed: int, count: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2, 5, 7))


@pytest.mark.parametrize("technique", IMAGES, ids=lambda technique: technique.name)
@given(data=st.data())
@settings(max_examples=25)
def test_made_images_keep_shape_and_range_and_follow_the_seed(technique: ImageTechnique, data: st.DataObject) -> None:
    seed, given_settings = data.draw(st.integers(0, 2**32 - 1)), data.draw(parameters(technique))
    pixels = images(seed)
    made = technique.make(pixels, given_settings, np.random.default_rng(seed))
    assert made.shape == pixels.shape
    assert np.abs(made).max() <= 1
    assert np.array_equal(made, technique.make(pixels, given_settings, np.random.default_rng(seed)))
    assert np.array_equal(pixels, images(seed))


@given(seed=st.integers(0, 2**32 - 1), chance=st.floats(0, 1))
def test_flip_is_undone_by_the_same_flip(seed: int, chance: float) -> None:
    flip = IMAGES[0]
    assert flip.statement.reversible
    pixels = images(seed)
    made = flip.make(pixels, {"chance": chance}, np.random.default_rng(seed))
    assert np.array_equal(flip.make(made, {"chance": chance}, np.random.default_rng(seed)), pixels)
    mirrored = flip.make(pixels, {"chance": 1.0}, np.random.default_rng(seed))
    assert np.array_equal(mirrored, pixels[:, :, :, ::-1])


def test_shift_moves_every_image_by_whole_pixels() -> None:
    pixels = images(1, count=200)
    made = TECHNIQUES["shift"].make(pixels, {"pixels": 1.0}, np.random.default_rng(2))  # type: ignore[attr-defined]
    moves = set()
    for before, after in zip(pixels, made, strict=True):
        padded = np.pad(before, ((0, 0), (1, 1), (1, 1)), mode="edge")
        found = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if np.array_equal(padded[:, 1 - down : 6 - down, 1 - right : 8 - right], after)
        ]
        assert len(found) == 1
        moves.add(found[0])
    assert len(moves) == 9


@pytest.mark.parametrize("name", ["rotation", "crop"])
def test_resampled_plane_is_read_at_the_mapped_points(name: str) -> None:
    """Linear interpolation is exact on a plane: inside the image the made value is the plane at the point that is read."""
    height, width = 9, 12
    down, right = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    plane = 0.03 * right + 0.05 * down
    pixels = np.broadcast_to(plane, (50, 1, height, width)).copy()
    drawn = np.random.default_rng(5)
    if name == "rotation":
        angles = np.deg2rad(30.0) * drawn.uniform(-1, 1, 50)[:, None, None]
        made = TECHNIQUES[name].make(pixels, {"degrees": 30.0}, np.random.default_rng(5))  # type: ignore[attr-defined]
        read_right = np.cos(angles) * right - np.sin(angles) * down
        read_down = np.sin(angles) * right + np.cos(angles) * down
    else:
        size = drawn.uniform(0.6, 1.0, 50)[:, None, None]
        middle = drawn.uniform(-1, 1, (50, 2))[:, :, None, None] * (1 - size[:, None])
        made = TECHNIQUES[name].make(pixels, {"least": 0.6}, np.random.default_rng(5))  # type: ignore[attr-defined]
        read_right = size * right + middle[:, 0] * width / 2
        read_down = size * down + middle[:, 1] * height / 2
    inside = (np.abs(read_right) <= (width - 1) / 2) & (np.abs(read_down) <= (height - 1) / 2)
    assert inside.mean() > 0.5
    assert np.abs(made[:, 0] - (0.03 * read_right + 0.05 * read_down))[inside].max() < 1e-12


def test_noise_and_colour_stay_within_their_strength() -> None:
    pixels = images(3, count=300) * 0.5
    noise = TECHNIQUES["noise"].make(pixels, {"width": 0.25}, np.random.default_rng(1))  # type: ignore[attr-defined]
    assert 0.24 < np.abs(noise - pixels).max() <= 0.25 + CELL_ULPS
    colour = TECHNIQUES["colour"].make(pixels, {"strength": 0.2}, np.random.default_rng(1))  # type: ignore[attr-defined]
    for before, after in zip(pixels, colour, strict=True):
        for channel in range(2):  # a straight line from before to after, one for each channel, with a common shift
            slope, shift = np.polyfit(before[channel].ravel(), after[channel].ravel(), 1)
            assert abs(slope - 1) <= 0.2 + 1e-9
            assert abs(shift) <= 0.2 + 1e-9
            assert np.allclose(slope * before[channel] + shift, after[channel], atol=1e-9)
