"""Reads a recipe from YAML."""

from __future__ import annotations

from privacy.preparation.recipes.recipe import Recipe, read_recipe
from privacy.preparation.yaml_tree import mapping_from_yaml
from protocols.errors import ErrorCode

MAX_RECIPE_BYTES = 1024 * 1024


def recipe_from_yaml(data: bytes) -> Recipe:
    """Reads a recipe file.

    Args:
        data: the file's bytes, UTF-8, at most `MAX_RECIPE_BYTES`.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault): not YAML (with the line), or every problem with its path
            (`steps[3].columns`).
    """
    return read_recipe(mapping_from_yaml(data, max_bytes=MAX_RECIPE_BYTES, what="recipe", code=ErrorCode.INVALID_RECIPE))
