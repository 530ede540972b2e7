"""``python -m benchmarks.quality DATA``: what each filter and each score finds of label errors that
are known, on the public sets in a folder.

A set is three files: ``NAME_pred_probs.npy``, ``NAME_labels.npy``, and the errors:
``NAME_verified_errors.npy`` (bool), or ``NAME_true_labels.npy``. Several models are
``NAME_pred_probs_0.npy`` and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dask
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

import noisydask
from noisydask.core.filters import FILTERS
from noisydask.core.scores import SCORES

OUT = Console(width=120)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LabeledSet:
    """Predictions, labels, and which of the labels are wrong."""

    name: str
    models: list[Array]
    labels: Array
    wrong: npt.NDArray[np.bool_]

    @classmethod
    def find(cls, folder: Path) -> list[LabeledSet]:
        """Read all sets below a folder."""
        found = []
        for path in sorted(folder.rglob("*_labels.npy")):
            name = path.name.removesuffix("_labels.npy")
            if name.endswith("_true"):
                continue
            files = sorted(path.parent.glob(f"{name}_pred_probs*.npy"))
            labels = np.load(path).astype(np.int64)
            verified = path.parent / f"{name}_verified_errors.npy"
            if verified.exists():
                wrong = np.load(verified).astype(bool)
            else:
                wrong = np.load(path.parent / f"{name}_true_labels.npy") != labels
            models = [np.load(file).astype(np.float32) for file in files]
            found.append(cls(name, models, labels, wrong))
        return found


def average_precision(scores: Array, wrong: npt.NDArray[np.bool_]) -> float:
    """Return the mean precision at the rank of each wrong label; low scores come first."""
    hits = wrong[np.argsort(scores, kind="stable")]
    ranks = np.flatnonzero(hits) + 1
    if not len(ranks):
        return float("nan")
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def rates(mask: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return F1, precision and recall of what is flagged."""
    true = int((mask & wrong).sum())
    precision = true / max(int(mask.sum()), 1)
    recall = true / max(int(wrong.sum()), 1)
    return 2 * true / max(int(mask.sum() + wrong.sum()), 1), precision, recall


def measure(each: LabeledSet) -> None:
    """Print the tables of a set."""
    probs: Any = each.models if len(each.models) > 1 else each.models[0]
    rows, classes = each.models[0].shape
    OUT.print(
        f"\n### {each.name}: {rows:,} x {classes}, {len(each.models)} model(s), "
        f"{int(each.wrong.sum()):,} labels known to be wrong\n"
    )
    OUT.print("| filter | flagged | F1 | precision | recall |\n|---|---|---|---|---|")
    for name in FILTERS:
        found = noisydask.find_label_issues(each.labels, probs, filter_by=name)  # type: ignore[arg-type]
        figures = " | ".join(f"{value:.3f}" for value in rates(found.mask, each.wrong))
        OUT.print(f"| `{name}` | {found.num_issues:,} | {figures} |")
    OUT.print("\n| score | average precision |\n|---|---|")
    for name in SCORES:
        scored = noisydask.find_label_issues(each.labels, probs, quality_score=name)  # type: ignore[arg-type]
        precision = average_precision(scored.label_quality.compute(), each.wrong)
        OUT.print(f"| `{name}` | {precision:.3f} |")


def quality(
    data: Annotated[Path, typer.Argument(help="Folder with the sets.")],
) -> None:
    """Measure filters and scores on labels that are known to be wrong."""
    sets = LabeledSet.find(data)
    if not sets:
        raise SystemExit(f"error: no NAME_labels.npy below {data}")
    with dask.config.set(scheduler="threads"):
        for each in sets:
            measure(each)


if __name__ == "__main__":
    typer.run(quality)
