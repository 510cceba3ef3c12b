"""Tables from files: what is read, and what is refused rather than guessed at."""

import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from betavae.metrics import read_table
from betavae.metrics.tables import column_names


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("shape,scale\n2,3\n", [[2, 3]]),
        ('"shape","scale"\n"2","3.5"\n', [[2, 3.5]]),
        ("\ufeff2,1\n2,3\n", [[2, 1], [2, 3]]),  # as some spreadsheets begin a file
        ("0\n1\n", [[0], [1]]),
    ],
)
def test_csv(text, table, tmp_path):
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    read = read_table(tmp_path / "table.csv")
    assert read.tolist() == table
    assert read.dtype == (np.float64 if 3.5 in table[0] else np.int64)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("shape,scale\n2,3\n", ["shape", "scale"]),
        ('"shape", "posX, posY"\n2,3\n', ["shape", "posX, posY"]),
        ("2,1\n2,3\n", []),
    ],
)
def test_names_of_columns(text, names, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    assert column_names(tmp_path / "table.csv") == names
    assert len(read_table(tmp_path / "table.csv").T) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no rows"),
        (b"a,b\n", "it has no rows"),
        (b"0,1\n2,3\n", "its first row, 0,1, may be names or numbers; give the columns names of letters"),
        (b"NA,0.5\n1,2\n", "its first row, NA,0.5, is neither all names nor all numbers"),
        (b",0.5\n1,2\n", "its first row, ,0.5, is neither"),
        (b",a,b\n0,1,2\n", "its first column has no name; if it numbers the rows"),
        (b"a,b\n1,x\n", "could not convert string 'x'"),
        (b"a,b\n1,2\n1\n", "number of columns changed"),
        ("größe\n1\n".encode("latin-1"), "can't decode"),
    ],
)
def test_csv_that_is_no_table(content, message, tmp_path):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"table\.csv is not a table of numbers .*{re.escape(message)}"):
        read_table(tmp_path / "table.csv")


def test_parquet(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2], "b": [3, 4]}), path)
    assert column_names(path) == ["a", "b"]
    assert read_table(path).tolist() == [[1, 3], [2, 4]]
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2], "__index_level_0__": [0, 1]}), path)
    with pytest.raises(ValueError, match="the column __index_level_0__ numbers the rows"):
        read_table(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="not a readable Parquet table"):
        read_table(path)
