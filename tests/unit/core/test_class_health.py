"""The quality and the overlap of classes against the real cleanlab, from joints of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from cleanlab import dataset
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.class_health import class_quality, overlapping_classes, rare_classes
from noisydask.core.noise import SparseMatrix

Array = np.ndarray[Any, Any]


def make(seed: int, classes: int) -> tuple[Array, int]:
    """A joint distribution of some examples; some classes have none."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0.1, 2.0], (classes, classes)))
    counts[np.diag_indices(classes)] += rng.poisson(20, classes)
    counts[rng.random(classes) < 0.1] = 0
    counts[0, 0] += 1
    return counts / counts.sum(), int(counts.sum())


@given(st.integers(0, 2**32), st.sampled_from([2, 5, 30]), st.booleans())
def test_as_cleanlab_has_them(seed: int, classes: int, asymmetric: bool) -> None:
    joint, rows = make(seed, classes)
    sparse = SparseMatrix.of_dense(joint)
    found = class_quality(sparse, rows)
    known = dataset.rank_classes_by_label_quality(joint=joint, num_examples=rows)
    known = known.set_index("Class Index").loc[found.classes]
    assert (np.diff(found.label_quality) >= 0).all()
    for name, values in (
        ("Label Issues", found.label_issues),
        ("Inverse Label Issues", found.inverse_label_issues),
        ("Label Noise", found.label_noise),
        ("Inverse Label Noise", found.inverse_label_noise),
        ("Label Quality Score", found.label_quality),
    ):
        np.testing.assert_allclose(values, known[name], atol=1e-12, err_msg=name)
    pairs = overlapping_classes(sparse, rows, asymmetric)
    theirs = dataset.find_overlapping_classes(
        joint=joint, num_examples=rows, asymmetric=asymmetric
    ).set_index(["Class Index A", "Class Index B"])
    assert (np.diff(pairs.probability) <= 0).all()
    same = theirs.loc[list(zip(pairs.first, pairs.second, strict=True))]
    np.testing.assert_allclose(pairs.probability, same["Joint Probability"], atol=1e-12)
    np.testing.assert_array_equal(pairs.examples, same["Num Overlapping Examples"])
    assert len(pairs.first) == np.count_nonzero(theirs["Joint Probability"])


def test_rare_classes() -> None:
    assert rare_classes(np.array([100, 100, 9, 0, 1])).tolist() == [4]
    assert rare_classes(np.array([5])).tolist() == []
