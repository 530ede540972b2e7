"""Rows that are moved by way of the run come as they went, those of an id to one part."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.dynamics.loss_rows import LossRows, joined_rows
from noisydask.dynamics.pieces import FOLDER, Pieces
from noisydask.dynamics.table import LossColumns, checked_rows, checked_table
from noisydask.errors import InputError
from noisydask.runs.store import RunStore
from noisydask.stores.locations import Location

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=3)
COLUMNS = LossColumns(subset="subset", label="label")


def frame_of(rows: list[tuple[object, int, float, str]]) -> pd.DataFrame:
    ids, iterations, losses, subsets = zip(*rows, strict=True)
    return pd.DataFrame(
        {"id": ids, "iteration": iterations, "loss": losses, "subset": subsets, "label": 7}
    )


@st.composite
def units(draw: st.DrawFn) -> list[pd.DataFrame]:
    """Rows of some units, whose ids are numbers or texts."""
    name = draw(st.sampled_from([NUMBERS, TEXTS]))
    row = st.tuples(name, NUMBERS, st.floats(0, 9, width=32), st.sampled_from(["a", "", "ü"]))
    return [frame_of(rows) for rows in draw(st.lists(st.lists(row, min_size=1), min_size=1))]


def as_frame(rows: LossRows) -> pd.DataFrame:
    return pd.DataFrame({name: rows[name] for name in rows.columns})


@settings(deadline=None)
@given(units(), st.integers(1, 5))
def test_every_row_comes_to_the_part_of_its_id(frames: list[pd.DataFrame], parts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunStore(Location.of(folder, None, "out"), "run")
        run.make_folder(FOLDER)
        pieces = Pieces(run, len(frames), parts)
        for unit, frame in enumerate(frames):
            pieces.write(unit, LossRows.of_frame(frame))
        files = {path.name: path.read_bytes() for path in (Path(folder) / FOLDER).iterdir()}
        pieces.write(0, LossRows.of_frame(frames[0]))
        assert files == {path.name: path.read_bytes() for path in (Path(folder) / FOLDER).iterdir()}
        found = [pieces.read(part) for part in range(parts)]
    read = [as_frame(rows) for rows in found if rows is not None]
    assert sum(len(set(frame["id"])) for frame in read) == len(set(pd.concat(frames)["id"]))
    got, given_rows = (
        sorted(pd.concat(some).itertuples(index=False, name=None)) for some in (read, frames)
    )
    assert got == given_rows
    whole = pd.concat(frames)
    for part in read:  # in the order of the table
        part_ids = whole[whole["id"].isin(set(part["id"]))]
        assert part["loss"].tolist() == part_ids["loss"].tolist()


@given(units())
def test_codes_order_like_the_values(frames: list[pd.DataFrame]) -> None:
    rows = joined_rows([LossRows.of_frame(frame) for frame in frames])
    whole = pd.concat(frames, ignore_index=True)
    codes, number = rows.codes(["id", "subset", "label"])
    names = list(zip(whole["id"], whole["subset"], strict=True))
    ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
    assert codes.tolist() == [ranks[name] for name in names]
    assert number == len(ranks)


TYPES = {
    "id": [pa.int8(), pa.uint32(), pa.int64(), pa.uint64(), pa.string(), pa.large_string()],
    "iteration": [pa.int16(), pa.int64(), pa.uint64(), pa.float64(), pa.bool_()],
    "loss": [pa.float16(), pa.float32(), pa.float64(), pa.int32(), pa.bool_(), pa.string()],
    "subset": [pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.int8()],
    "label": [pa.uint8(), pa.int64(), pa.string()],
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in TYPES.items() for kind in kinds]
)
def test_a_table_is_checked_as_a_frame_is(name: str, kind: pa.DataType, missing: bool) -> None:
    kinds = {each: some[1] for each, some in TYPES.items()} | {"subset": pa.string(), name: kind}
    values = [1, 0, None] if missing else [1, 0, 1]
    table = pa.table(
        {
            each: pa.array(values if each == name else [1, 0, 1]).cast(pa.string()).cast(some)
            if not pa.types.is_dictionary(some) and some != pa.float16()
            else pa.array(values).cast(pa.float64()).cast(some)
            if some == pa.float16()
            else pa.array(values).cast(pa.string()).dictionary_encode()
            for each, some in kinds.items()
        }
    )
    text = name == "id" and kind in (pa.string(), pa.large_string())
    said = []
    for look in (
        lambda: checked_table(table, COLUMNS, text, {}),
        lambda: LossRows.of_frame(checked_rows(table.to_pandas(), COLUMNS, text)),
    ):
        try:
            found = as_frame(look())
            said.append(found.astype({"loss": np.float64, "iteration": np.int64}).to_csv())
        except InputError as error:
            said.append(str(error))
    assert said[0] == said[1]
