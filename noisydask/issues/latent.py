"""What follows from the confident joint, as arrays of a run: the calibrated joint, the noise matrix
and its inverse, the prior of the true classes.

Only entries that are not 0 are kept, as (given class, likely class, value), so that many classes
take no more room than they need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noisydask.core.noise import (
    MOST_DENSE,
    LatentEstimates,
    SparseMatrix,
    calibrated_joint,
    confident_joint,
    estimate_latent,
)
from noisydask.core.ranking import Ints
from noisydask.core.sparse_counts import SparseCounts
from noisydask.issues import result_arrays
from noisydask.runs.store import NewRun

#: Arrays of a run: rows given, likely, count and calibrated count of each entry of the joint; rows
#: noise matrix and inverse of each entry; the prior.
JOINT, NOISE, PRIOR = "joint_entries.zarr", "noise_entries.zarr", "prior.zarr"


@dataclass(frozen=True)
class Latent:
    """Estimates of which classes were mistaken for which.

    Attributes
    ----------
    joint : SparseMatrix
        The confident joint, uncalibrated, diagonal at least 1.
    calibrated : SparseMatrix
        The same, with as many examples of each given class as there are.
    estimates : LatentEstimates
        Noise matrix, its inverse, prior.
    """

    joint: SparseMatrix
    calibrated: SparseMatrix
    estimates: LatentEstimates

    @classmethod
    def of(cls, counts: SparseCounts, class_counts: Ints) -> Latent:
        """Estimate from the joint as it was counted."""
        joint = confident_joint(counts, len(class_counts))
        calibrated = calibrated_joint(joint, class_counts)
        return cls(joint, calibrated, estimate_latent(calibrated, class_counts))

    def write(self, run: NewRun) -> None:
        """Write the arrays of a run."""
        joint = self.joint
        places = joint.rows, joint.columns
        entries = np.array([*places, joint.values, self.calibrated.get(*places)], np.int64)
        run.write_array(JOINT, entries)
        estimates = self.estimates
        inverse = estimates.inverse_noise_matrix.get(*reversed(places))
        run.write_array(NOISE, np.array([estimates.noise_matrix.get(*places), inverse]))
        run.write_array(PRIOR, estimates.prior)
        if joint.num_classes <= MOST_DENSE:
            result_arrays.write_joint(run, joint)
