"""Settings where only the most probable classes are known: those that need all classes are refused,
and rows that stay undecided are told.
"""

from __future__ import annotations

from collections.abc import Mapping

from noisydask.core.filters import FILTERS
from noisydask.core.scores import SCORES
from noisydask.core.top_rows import OF_WHOLE_ROWS
from noisydask.errors import InputError
from noisydask.issues.options import IssueSettings
from noisydask.text import counted

#: What filters need that evidence always decides.
_OF_EVIDENCE = {"quality", "auto"}


def refuse_of_whole_rows(settings: IssueSettings) -> None:
    """Refuse what needs all classes of a row.

    Raises
    ------
    InputError
        If anything does.
    """
    asked = []
    for name in ("quality_score", "rank_by"):
        score = getattr(settings, name)
        if score in SCORES and set(SCORES[score].columns) & set(OF_WHOLE_ROWS):
            asked.append(f"{name} {score}")
    if settings.adjust_pred_probs:
        asked.append("adjust_pred_probs")
    asked += [f"keep_columns {name}" for name in settings.keep_columns if name in OF_WHOLE_ROWS]
    if asked:
        raise InputError(
            f"{asked[0]} needs all classes of a row, but with pred_classes only some are known"
        )


def told_of_undecided(found: Mapping[str, int], settings: IssueSettings) -> str:
    """Return what is said of rows that are undecided, by what they are undecided for."""
    if not found["any"]:
        return ""
    rows = counted(found["any"], "example")
    told = (
        f"{rows} cannot be decided from the classes that are kept (undecided_indices): the "
        "confident joint, or pairs of classes by which a filter prunes, leave them out"
    )
    if FILTERS[settings.filter_by].needs <= _OF_EVIDENCE:
        return f"{told}; the issues are those of whole rows"
    return f"{told}, and the issues may not be those of whole rows"
