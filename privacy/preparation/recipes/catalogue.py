"""Which kinds of steps a recipe may have: a closed list. A recipe names a kind; nothing else is ever looked up by a name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy.preparation.recipes.step import Step
from privacy.preparation.recipes.steps.augment import Augment
from privacy.preparation.recipes.steps.binning import Bin
from privacy.preparation.recipes.steps.clip import Clip
from privacy.preparation.recipes.steps.coding import BottomCode, TopCode
from privacy.preparation.recipes.steps.columns import Drop, Rename, Select
from privacy.preparation.recipes.steps.date_to_number import DateToNumber
from privacy.preparation.recipes.steps.drop_duplicates import DropDuplicates
from privacy.preparation.recipes.steps.generalise import Generalise
from privacy.preparation.recipes.steps.hash_features import HashFeatures
from privacy.preparation.recipes.steps.impute import Impute, ImputeDraw
from privacy.preparation.recipes.steps.map_values import MapValues
from privacy.preparation.recipes.steps.missing import MarkMissing
from privacy.preparation.recipes.steps.one_hot import OneHot
from privacy.preparation.recipes.steps.parse_date import ParseDate
from privacy.preparation.recipes.steps.parse_number import ParseNumber
from privacy.preparation.recipes.steps.pseudonymise import Pseudonymise
from privacy.preparation.recipes.steps.redact_text import RedactText
from privacy.preparation.recipes.steps.shift_dates import ShiftDates
from privacy.preparation.recipes.steps.suppress_small_groups import SuppressSmallGroups

_KINDS: tuple[type[Step], ...] = (
    Select,
    Drop,
    Rename,
    MarkMissing,
    ParseNumber,
    ParseDate,
    DateToNumber,
    MapValues,
    Clip,
    Bin,
    Impute,
    ImputeDraw,
    OneHot,
    HashFeatures,
    DropDuplicates,
    RedactText,
    Pseudonymise,
    Generalise,
    TopCode,
    BottomCode,
    ShiftDates,
    SuppressSmallGroups,
    Augment,
)

STEPS: Mapping[str, type[Step]] = MappingProxyType({kind.KIND: kind for kind in _KINDS})
