"""pandas, pyarrow and Dask read and write tables by URL, through a bastion.

One program of its own does all of it, because importing these packages takes seconds, and the
threads of their libraries stay.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sshd import Sshd

ROOT = Path(__file__).parents[2]
LONG = os.environ.get("HUSSH_LONG") == "1"

PROGRAM = """
import json, sys

import fsspec
import pandas
import pyarrow.dataset

import hussh.fsspec

url, options, long = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "1"


def main():
    frame = pandas.DataFrame({"number": range(1000), "half": [n / 2 for n in range(1000)]})
    frame.to_csv(f"{url}/table.csv", index=False, storage_options=options)
    assert pandas.read_csv(f"{url}/table.csv", storage_options=options).equals(frame)
    frame.to_parquet(f"{url}/table.parquet", storage_options=options)
    assert pandas.read_parquet(f"{url}/table.parquet", storage_options=options).equals(frame)
    fs, path = fsspec.core.url_to_fs(url, **options)
    table = pyarrow.dataset.dataset(f"{path}/table.parquet", filesystem=fs).to_table()
    assert table.num_rows == 1000
    pyarrow.dataset.write_dataset(
        table, f"{path}/parts", format="parquet", filesystem=fs, max_rows_per_file=300,
        max_rows_per_group=300)
    assert pyarrow.dataset.dataset(f"{path}/parts", filesystem=fs).count_rows() == 1000

    import dask
    import dask.dataframe

    read = dask.dataframe.read_csv(
        f"{url}/table.csv", blocksize=3000, storage_options=options)
    assert read.npartitions > 2
    assert read.number.sum().compute(scheduler="threads", num_workers=4) == 499500
    parts = dask.dataframe.read_parquet(f"{url}/parts", storage_options=options)
    assert parts.half.sum().compute(scheduler="threads", num_workers=4) == 249750
    if long:
        assert read.number.sum().compute(scheduler="processes", num_workers=2) == 499500
    print(len(hussh.fsspec.HusshFileSystem._cache))


if __name__ == "__main__":
    main()
"""


def test_tables(target: Sshd, bastion: Sshd, tmp_path: Path) -> None:
    """csv and parquet go there and come back, with one login of the process on each hop."""
    for name in ("fsspec", "pandas", "pyarrow", "dask"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    jump = {
        "host": bastion.host, "port": bastion.port, "username": bastion.alice.name,
        "private_key": str(bastion.alice.key.path),
    }  # fmt: skip
    options = {
        "proxy_jump": jump, "private_key": str(target.alice.key.path), "timeout": 60,
    }  # fmt: skip
    (tmp_path / "program.py").write_text(PROGRAM)
    with target.alice.folder("tables"):
        url = f"hussh://{target.alice.name}@{target.host}:{target.port}/~/tables"
        ran = subprocess.run(
            [sys.executable, tmp_path / "program.py", url, json.dumps(options), str(int(LONG))],
            capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
    if not LONG:  # workers of Dask log in, too
        assert len(target.authentications()) == len(bastion.authentications()) == 1
