"""Fills a stopped server's database with ended runs, as a facility's would look after some years."""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import psycopg

from runomics.store.runs import RunRow

ACCOUNT = "123456789012"
GROUPS = 400
BATCHES = 50
CHUNK = 20_000

COLUMNS = [field.name for field in fields(RunRow)]


def _rows(first: int, count: int) -> Iterator[list[Any]]:
    chance = random.Random(7)
    base = dict.fromkeys(COLUMNS)
    for number in range(first, first + count):
        status = "COMPLETED" if chance.random() < 0.98 else chance.choice(("FAILED", "CANCELLED"))
        batch = 1_000_000 + number % BATCHES if chance.random() < 0.5 else None
        row = base | {
            "id": number,
            "account": ACCOUNT,
            "uuid": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "name": f"sample-{number % 20_000:05d}",
            "status": status,
            "outcome": status,
            "incarnation": 1,
            "revision": 7,
            "workflow_id": 1_000_000,
            "workflow_type": "PRIVATE",
            "workflow_name": "germline",
            "workflow_uuid": "c0ffee00-0000-4000-8000-000000000000",
            "run_group_id": 1_000_000 + number % GROUPS,
            "batch_id": batch,
            "priority": 5,
            "engine": "WDL",
            "main": "main.wdl",
            "digest": "sha256:" + "aa" * 32,
            "definition_sha256": "aa" * 32,
            "parameters": json.dumps(
                {
                    "sample": f"S{number}",
                    "reads": [f"s3://inputs/{number}/R{mate}.fastq.gz" for mate in (1, 2)],
                    "reference": "s3://refs/hg38/Homo_sapiens_assembly38.fasta",
                }
            ),
            "storage_type": "DYNAMIC",
            "storage_peak_bytes": 3 << 30,
            "role_arn": "arn:aws:iam::123456789012:role/omics",
            "started_by": "arn:aws:iam::123456789012:root",
            "output_uri": "s3://outputs/results",
            "run_output_uri": f"s3://outputs/results/{number}",
            "log_level": "ALL",
            "retention_mode": "RETAIN",
            "tags": "{}",
            "extra": "{}",
            "created_ms": 1_700_000_000_000 + number,
            "started_ms": 1_700_000_060_000 + number,
            "stopped_ms": 1_700_000_360_000 + number,
        }
        yield [row[name] for name in COLUMNS]


def fill(database: Path, count: int) -> tuple[int, int]:
    """Insert `count` ended runs; the first and the last id. The server must not run."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("pragma synchronous = off")
        first = connection.execute("select value from counter where kind = 'run'").fetchone()[0] + 1
        marks = ",".join("?" * len(COLUMNS))
        insert = f"insert into run ({','.join(COLUMNS)}) values ({marks})"  # noqa: S608 - names of our own columns
        for start in range(first, first + count, CHUNK):
            connection.execute("begin immediate")
            connection.executemany(insert, _rows(start, min(CHUNK, first + count - start)))
            connection.execute("commit")
        connection.execute("update counter set value = ? where kind = 'run'", (first + count - 1,))
        connection.execute("analyze")
        connection.execute("pragma wal_checkpoint(truncate)")
    finally:
        connection.close()
    return first, first + count - 1


def fill_postgresql(url: str, count: int) -> tuple[int, int]:
    """The same in a PostgreSQL database that a server has laid out."""
    with psycopg.connect(url) as connection:
        first, counted = connection.execute(
            "select nextval('next_run'), setval('next_run', 999999 + %s)", (count,)
        ).fetchone() or (0, 0)
        with connection.cursor().copy(f"copy run ({','.join(COLUMNS)}) from stdin") as copy:
            for row in _rows(first, count):
                copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as connection:
        # As autovacuum leaves it.
        connection.execute("vacuum (analyze) run")
    return first, counted
