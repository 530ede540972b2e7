"""The options of the job on training losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from noisydask.core.choices import TrackingLossType
from noisydask.dynamics.settings import LossSettings
from noisydask.engine.config import ClusterConfig
from noisydask.options import DATA, AnyPlace, option
from noisydask.runs.options import NamedConfig


class DynamicsConfig(NamedConfig, LossSettings):
    """All options of the job on training losses, of which there is exactly one of losses, table
    and datumaro.
    """

    job: Literal["dynamics"] = "dynamics"
    losses: AnyPlace | None = option(
        None, help="Losses, examples x iterations: path or URL (.zarr, .npy).", panel=DATA
    )
    iters: AnyPlace | None = option(
        None, help="The iterations, ascending: path or URL.", panel=DATA
    )
    labels: AnyPlace | None = option(
        None, help="Labels: path or URL (.zarr, .npy, file.parquet#column).", panel=DATA
    )
    ids: AnyPlace | None = option(
        None, help="A name for each example: path or URL, as for labels.", panel=DATA
    )
    table: AnyPlace | None = option(
        None, help="Losses as a table (Parquet or CSV): path or URL.", panel=DATA
    )
    id_column: str = option("id", help="Column of the table: id.", panel=DATA)
    iteration_column: str = option("iteration", help="Column of the table: iteration.", panel=DATA)
    loss_column: str = option("loss", help="Column of the table: loss.", panel=DATA)
    label_column: str | None = option(None, help="Column of the table: label.", panel=DATA)
    subset_column: str | None = option(None, help="Column of the table: subset.", panel=DATA)
    ann_id_column: str | None = option(None, help="Column of the table: annotation id.", panel=DATA)
    datumaro: AnyPlace | None = option(
        None, help="Losses in a dataset in Datumaro's JSON format: path or URL.", panel=DATA
    )
    tracking_loss_type: TrackingLossType | None = option(
        None, help="Which loss of a detection dataset is followed."
    )
    full: bool = option(False, help="Read everything again, also what an earlier run has read.")
    cluster: ClusterConfig = Field(default=ClusterConfig())

    @model_validator(mode="after")
    def _one_source(self) -> DynamicsConfig:
        if sum(source is not None for source in (self.losses, self.table, self.datumaro)) != 1:
            raise ValueError("give one of losses, table and datumaro")
        return self
