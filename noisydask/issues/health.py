"""The health of a dataset by class: how good the labels of each are, which overlap, which are rare
or never predicted. From arrays of a run that have the size of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.class_health import class_quality, overlapping_classes, rare_classes
from noisydask.core.noise import SparseMatrix, estimate_joint

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Health:
    """The labels of a dataset, class by class.

    Source: ``cleanlab.dataset`` of cleanlab 2.9, whose numbers these are.

    Attributes
    ----------
    score : float
        Share of the examples whose label is likely right.
    num_issues : int
        Examples whose likely class is not the given one: what the score is made of.
    num_examples : int
        Valid examples.
    classes : DataFrame
        A row a class, the worst labels first: ``class``, ``name`` where names are known, ``given``
        and ``predicted`` (examples), ``label_issues``, ``inverse_label_issues``, ``label_noise``,
        ``inverse_label_noise``, ``label_quality``.
    overlapping : DataFrame
        A row a pair of classes that are mistaken for each other, most first: ``class_a``,
        ``class_b``, names where known, ``examples``, ``joint_probability``.
    rare, never_given, never_predicted : tuple of int
        Classes that less than a tenth of an even share of the examples are given; that none is
        given; that are predicted for none.
    """

    score: float
    num_issues: int
    num_examples: int
    classes: pd.DataFrame = field(repr=False)
    overlapping: pd.DataFrame = field(repr=False)
    rare: tuple[int, ...] = ()
    never_given: tuple[int, ...] = ()
    never_predicted: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        calibrated: SparseMatrix,
        class_counts: Ints,
        predicted: Ints,
        num_issues: int,
        class_names: tuple[str, ...] | None,
    ) -> Health:
        """Take the health from the calibrated joint and the counts of classes."""
        rows = int(class_counts.sum())
        joint = estimate_joint(calibrated)
        quality = class_quality(joint, rows)
        overlap = overlapping_classes(joint, rows)
        classes: dict[str, Any] = {
            "class": quality.classes,
            "given": class_counts[quality.classes],
            "predicted": predicted[quality.classes],
            "label_issues": quality.label_issues,
            "inverse_label_issues": quality.inverse_label_issues,
            "label_noise": quality.label_noise,
            "inverse_label_noise": quality.inverse_label_noise,
            "label_quality": quality.label_quality,
        }
        pairs: dict[str, Any] = {
            "class_a": overlap.first,
            "class_b": overlap.second,
            "examples": overlap.examples,
            "joint_probability": overlap.probability,
        }
        if class_names is not None:
            names = np.array(class_names, object)
            classes["name"] = names[quality.classes]
            pairs |= {"name_a": names[overlap.first], "name_b": names[overlap.second]}
        return cls(
            1 - num_issues / rows,
            num_issues,
            rows,
            pd.DataFrame(classes),
            pd.DataFrame(pairs),
            tuple(rare_classes(class_counts).tolist()),
            tuple(np.flatnonzero(class_counts == 0).tolist()),
            tuple(np.flatnonzero(predicted == 0).tolist()),
        )

    def since(self, before: Health) -> pd.DataFrame:
        """Return how the classes changed since an earlier run of the same classes.

        Returns
        -------
        DataFrame
            A row a class, ascending: ``class``, ``given``, ``label_issues`` and ``label_quality``
            now less then.
        """
        names = ["given", "label_issues", "label_quality"]
        now, then = (each.classes.set_index("class")[names].sort_index() for each in (self, before))
        return (now - then).reset_index()
