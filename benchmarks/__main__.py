"""``python -m benchmarks``, which ``make bench`` calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import measure
from benchmarks.datumaro import measure_datumaro
from benchmarks.table import measure_table
from noisydask.errors import NoisydaskError

OUT, ERR = Console(), Console(stderr=True)


def bench(
    shape: Annotated[
        list[str] | None, typer.Option(help="Examples x classes, such as 1000000x1000; repeatable.")
    ] = None,
    dynamics: Annotated[
        list[str] | None, typer.Option(help="Examples x iterations of losses; repeatable.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the data are made and kept.")] = Path(
        "bench-data"
    ),
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    cleanlab: Annotated[bool, typer.Option(help="Measure cleanlab too.")] = True,
    client: Annotated[
        bool, typer.Option(help="Measure the client's memory from 10^6 to 10^8 examples.")
    ] = False,
    table_rows: Annotated[
        list[int] | None, typer.Option(help="Rows of a table of losses to rank; repeatable.")
    ] = None,
    datumaro: Annotated[
        bool, typer.Option("--datumaro", help="Measure small losses beside Datumaro.")
    ] = False,
    datumaro_python: Annotated[
        Path | None, typer.Option(help="A Python that has Datumaro 1.10, to measure it too.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the read floor, the job and cleanlab side by side, interleaved."""
    datumaro = datumaro or datumaro_python is not None
    shapes = tuple(shape or (() if dynamics or table_rows or datumaro else measure.SHAPES))
    plan = measure.Plan(shapes, tuple(dynamics or ()), folder, rounds, workers, cleanlab, client)
    figures = measure.measure(plan, ERR)
    if figures["shapes"] or figures["dynamics"]:
        OUT.print(measure.table(figures))
    if datumaro:
        figures["datumaro"] = measure_datumaro(folder, datumaro_python, rounds, OUT)
    if table_rows:
        figures["tables"] = [measure_table(folder, rows, workers, ERR) for rows in table_rows]
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    try:
        typer.run(bench)
    except NoisydaskError as error:
        raise SystemExit(f"error: {error}") from None
