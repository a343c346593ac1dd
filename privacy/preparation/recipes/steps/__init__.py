"""The steps of recipes, one kind a module; `privacy.preparation.recipes.catalogue` lists them."""
