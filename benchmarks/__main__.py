"""``python -m benchmarks``, which ``make bench`` calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import measure
from benchmarks.datumaro import measure_datumaro
from benchmarks.objects import SHAPES as OBJECTS
from benchmarks.objects import measure_objects, objects_table
from benchmarks.requests import requests_table
from benchmarks.tables import measure_tables, tables_table
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
    objects: Annotated[
        list[str] | None,
        typer.Option(help="Examples x classes on an S3 server of this machine; repeatable."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each worker, on S3.", min=1)] = 1,
    table_rows: Annotated[
        list[int] | None,
        typer.Option(help="Losses of a table to rank, beside DuckDB; repeatable."),
    ] = None,
    datumaro: Annotated[
        bool, typer.Option("--datumaro", help="Measure small losses beside Datumaro.")
    ] = False,
    datumaro_python: Annotated[
        Path | None, typer.Option(help="A Python that has Datumaro 1.10, to measure it too.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure jobs beside reading, raw requests, cleanlab and DuckDB, interleaved."""
    datumaro = datumaro or datumaro_python is not None
    if not (shape or dynamics or objects or table_rows or datumaro):
        shape, dynamics, objects = [*measure.SHAPES], [*measure.DYNAMICS], [*OBJECTS]
        table_rows = [20_000_000]
    shapes = tuple(shape or ())
    plan = measure.Plan(shapes, tuple(dynamics or ()), folder, rounds, workers, cleanlab, client)
    figures = measure.measure(plan, ERR)
    if figures["shapes"] or figures["dynamics"]:
        OUT.print(measure.table(figures))
    if datumaro:
        figures["datumaro"] = measure_datumaro(folder, datumaro_python, rounds, OUT)
    if objects:
        figures["objects"] = [
            measure_objects(each, folder, rounds, (workers, threads), ERR) for each in objects
        ]
        OUT.print(objects_table(figures["objects"]))
        OUT.print(requests_table(figures["objects"][0]["requests"]))
    if table_rows:
        found = [measure_tables(folder, rows, rounds, workers) for rows in table_rows]
        figures["tables"] = [each for tables in found for each in tables]
        OUT.print(tables_table(figures["tables"]))
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    try:
        typer.run(bench)
    except NoisydaskError as error:
        raise SystemExit(f"error: {error}") from None
