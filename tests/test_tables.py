"""Tables from files: what is read, and what is refused rather than guessed at."""

import subprocess
import sys

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from betavae import metrics
from betavae.files import text_tables
from betavae.files.tables import load_table
from betavae.metrics import read_table


@pytest.mark.parametrize(
    ("name", "text", "table", "names"),
    [
        ("t.csv", "shape,scale\n2,3\n", [[2, 3]], ["shape", "scale"]),
        ("t.csv", '"shape","scale"\n"2","3.5"\n', [[2, 3.5]], ["shape", "scale"]),
        ("t.csv", '"shape", "posX, posY"\n2, 3\n', [[2, 3]], ["shape", "posX, posY"]),
        ("t.csv", '"pos\nX",b\n2,3\n', [[2, 3]], ["pos X", "b"]),
        ("t.csv", "\ufeff2,1\r\n2,3\r\n\r\n\n", [[2, 1], [2, 3]], []),  # as some spreadsheets begin and end a file
        ("t.csv", "\ufeffa,b\r\n2,3", [[2, 3]], ["a", "b"]),
        ("t.csv", "0\n1\n", [[0], [1]], []),
        ("t.csv", "a,,c\n1,2,3\n", [[1, 2, 3]], ["a", "column 2", "c"]),
        ("t.csv", "a,b\n1,nan\n2,inf\n", [[1, np.nan], [2, np.inf]], ["a", "b"]),
        ("t.csv", "# a,b\n1,2\n", [[1, 2]], ["a", "b"]),  # as numpy.savetxt writes names
        ("t.tsv", "posX, in mm\tb\n1\t2.5\n", [[1, 2.5]], ["posX, in mm", "b"]),
        ("t.tsv", "a,b\n0,1\n", [[0, 1]], ["a", "b"]),  # separated by commas for all its name says
        ("t.txt", "a\tb\n1\t2.5\n", [[1, 2.5]], ["a", "b"]),
        ("t.txt", "1.5 2\n3   4\n", [[1.5, 2], [3, 4]], []),  # numpy.savetxt
        ("t.txt", "# a b\n 1 2\n", [[1, 2]], ["a", "b"]),
        ("t.csv", "a;b\n1;2.5\n", [[1, 2.5]], ["a", "b"]),
        ("t.csv", "a;b\n1;2,5\n-0,25;1e-3\n", [[1, 2.5], [-0.25, 0.001]], ["a", "b"]),
        ("t.csv", "0,5;1,5\n0,7;1\n", [[0.5, 1.5], [0.7, 1]], []),
        ("t.csv", '"a;b",c\n1,2\n', [[1, 2]], ["a;b", "c"]),
    ],
)
def test_text(name, text, table, names, tmp_path):
    (tmp_path / name).write_bytes(text.encode())
    found = load_table(tmp_path / name)
    np.testing.assert_array_equal(found.values, table)
    assert found.names == tuple(names)
    assert found.values.dtype == np.array(table).dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no rows"),
        (b"a,b\n", "it has no rows"),
        (b"\n1,2\n", "its first line is empty"),
        (b"0,1\n2,3\n", "its first line, '0,1', may be names or numbers; give the columns names that are not numbers"),
        (b"NA,0.5\n1,2\n", "its first line, 'NA,0.5', has names and numbers"),
        (b",0.5\n1,2\n", "its first line, ',0.5', has names and numbers"),
        (b",a,b\n0,1,2\n7,1,2\n", "its first column has no name and is not a row index; give it a name"),
        (b",a,b\nx,1,2\n", "its first column has no name and is not a row index; give it a name"),
        (b"a,b\n1,x\n", "column 'b' contains text, such as 'x', which is allowed for factors only"),
        (b"1,2\n3,x\n", "column 2 has '2' in line 1 and 'x' in line 2; write all its cells as numbers, or all as text"),
        (b"a,b\n1,x\n2,y\n3,7\n", "column 'b' has '7' in line 4 and 'x' in line 2; write all"),
        (b'a,b\n"1",2\n3,""\n', "column 'b' has an empty cell in line 3; fill it"),
        (b'a,b\n"x\ny",2\nz,\n', "column 'b' has an empty cell in line 4; fill it"),
        (b"a,b\n1,2\n1\n", "line 3 has 1 cell, but line 1 has 2"),
        (b"a,b\n1,2\n\n1,2\n", "line 3 is empty; fill it or delete it"),
        (b'a\n1\n""\n2\n', "line 3 is empty; fill it or delete it"),
        (b'a,b\n1,2\n"1,2\n', "line 3 cannot be split into cells: unexpected end of data"),
        (b'a,b\n1,"2\n' + b"1,2\n" * 99_999, "line 2 cannot be split into cells: field larger than"),
        (b"a,b\n1," + b"2" * 200_000 + b"\n", "line 2 cannot be split into cells: field larger than field limit"),
        (b"a,b;c\n1,2\n", "its first line has semicolons and commas; put names that contain one of them in quotes"),
        (b"a\tb;c\n1\t2\n", "its first line has tabs and semicolons; put"),
        (b"a;b\n1,5;2\n1.5;2\n", "column 'a' has decimal commas and decimal points; write all with points"),
        (b"a;b\n1,5;2.5\n", "column 'a' has decimal commas and column 'b' has decimal points"),
        (b"a;b\n1,5;1.234,5\n", "column 'b' contains text, such as '1.234,5'"),
        (b"a,b\n1_0,2\n", "column 'a' contains text, such as '1_0'"),
        (b"\x1b[31ma,b\n1,2\n", r"the column name '\x1b[31ma' has control characters; rename the column"),
        ("größe\n1\n".encode("latin-1"), "is not UTF-8 text (invalid start byte); save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 18])
def test_text_that_is_no_table(content, message, block, tmp_path, monkeypatch):
    monkeypatch.setattr(text_tables, "_BLOCK_CELLS", block)
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"table\.csv") as error:
        read_table(tmp_path / "table.csv")
    assert message in str(error.value)
    assert len(str(error.value)) < 400


def test_many_columns_and_rows_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tables, "_BLOCK_ROWS", 7)
    table = np.random.default_rng(0).normal(size=(30, 3_000))
    labels = np.array(["b", "c", "a"])[np.arange(30) % 3]
    frame = pandas.DataFrame(table, columns=[f"z{k}" for k in range(3_000)]).assign(shape=labels)
    frame.to_csv(tmp_path / "wide.csv", index=False)
    np.testing.assert_array_equal(read_table(tmp_path / "wide.csv", "z*"), table)
    assert read_table(tmp_path / "wide.csv", "shape", labels=True)[:4].tolist() == [[1], [2], [0], [1]]
    with pytest.raises(ValueError, match=r"has no column 'y7'; .*its columns are z0, z1, .* and 2,981 more$"):
        read_table(tmp_path / "wide.csv", "y7")


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    shapes, scales = rng.integers(3, size=600), rng.integers(4, size=600)
    latents = np.stack([shapes, scales], axis=1) + rng.normal(0, 0.1, (600, 2))
    words = np.array(["square", "heart", "ellipse"])[shapes]
    return pandas.DataFrame(
        {
            "z0": latents[:, 0],
            "z1": latents[:, 1],
            "shape": words,
            "big": scales > 1,
            "posX": scales,
            "size": scales / 4,
        }
    )


def written(frame, path, index):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=index)
    elif path.name == "german.csv":
        frame.to_csv(path, index=index, sep=";", decimal=",")
    else:
        frame.to_csv(path, index=index, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "german.csv", "t.parquet"])
def test_one_file_with_latents_and_factors_of_any_kind(frame, name, index, tmp_path):
    path = written(frame, tmp_path / name, index)
    latents, names = load_table(f"{path}:z*")
    np.testing.assert_array_equal(latents, frame[["z0", "z1"]])
    assert names == ("z0", "z1")
    factors, names = load_table(f"{path}:shape, big,posX,size", labels=True)
    assert names == ("shape", "big", "posX", "size")
    given = metrics.inputs.as_numbers(frame[list(names)])  # what the functions make of the same columns
    np.testing.assert_array_equal(factors, given)
    assert metrics.mig(latents, factors, seed=0, num_train=500) == metrics.mig(
        latents, frame[list(names)], seed=0, num_train=500
    )
    assert load_table(path, labels=True).names == tuple(frame.columns)  # and no index
    with pytest.raises(
        ValueError, match=r"column 'shape' contains text, such as '\w+', which is allowed for factors only .*:NAME,z\*"
    ):
        read_table(path)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_row_index_is_left_out(tmp_path, first, name):
    table = pandas.DataFrame({name: np.arange(first, first + 3), "a": [5, 6, 5]})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert load_table(tmp_path / "t.csv").names == load_table(f"{tmp_path}/t.csv:*").names == ("a",)
    assert read_table(tmp_path / "t.csv").tolist() == [[5], [6], [5]]
    table.to_parquet(tmp_path / "t.parquet", index=False)
    assert load_table(tmp_path / "t.parquet").names == ("a",)


def test_an_index_that_is_not_in_order_is_no_row_number(tmp_path):
    table = pandas.DataFrame({"a": [5, 6, 7]}, index=[2, 0, 1])
    table.to_csv(tmp_path / "t.csv")
    with pytest.raises(ValueError, match="its first column has no name and is not a row index"):
        read_table(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", "a").tolist() == [[5], [6], [7]]
    table.to_parquet(tmp_path / "t.parquet")  # as __index_level_0__
    assert "__index_level_0__" in pyarrow.parquet.read_schema(tmp_path / "t.parquet").names
    assert read_table(tmp_path / "t.parquet").tolist() == [[5], [6], [7]]


def test_columns_that_pandas_numbers_are_read_beside_its_index(tmp_path):
    pandas.DataFrame([[5, 6], [7, 8]]).to_csv(tmp_path / "t.csv")
    assert load_table(tmp_path / "t.csv").names == ("0", "1")
    assert read_table(tmp_path / "t.csv").tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("select", "names"),
    [
        ("z*", ["z1", "z2"]),
        ("u,z1", ["u", "z1"]),  # in the order given
        ("z2,z*", ["z2", "z1"]),  # and once
        ("z[1]", ["z[1]"]),  # a name as written wins
        ("z[2]", ["z2"]),
        ("a,b", ["a,b"]),
        ("c:d", ["c:d"]),
        ("Unnamed: 0,u", ["Unnamed: 0", "u"]),
    ],
)
def test_columns_are_chosen_by_name(tmp_path, select, names):
    columns = ["Unnamed: 0", "z1", "z2", "u", "a,b", "c:d"] + ["z[1]"] * (select == "z[1]")
    table = pandas.DataFrame([range(len(columns))], columns=columns)
    for path in (written(table, tmp_path / name, False) for name in ("t.csv", "t.parquet")):
        found = load_table(f"{path}:{select}")
        assert found.names == tuple(names)
        assert found.values.tolist() == [[columns.index(name) for name in names]]


@pytest.mark.parametrize(
    ("name", "select", "message"),
    [
        ("t.csv", "scal", "t.csv has no column 'scal'; did you mean 'scale'?; its columns are shape, scale"),
        ("t.csv", "shape,y*", "t.csv has no column 'y*'; its columns are shape, scale"),
        ("t.csv", "", "t.csv has no column ''; its columns"),
        ("t.parquet", "scal", "t.parquet has no column 'scal'; did you mean 'scale'?; its columns are shape, scale"),
        ("bare.csv", "a", "bare.csv: it has no column names, which the selection 'a' needs; add a header line"),
        ("t.npy", "a", "t.npy contains one array, whose columns have no names; leave out :a"),
        ("none.csv", "a", "there is no file none.csv"),
        ("tt.csv", "a:b", "there is no file tt.csv; did you mean t.csv?"),
    ],
)
def test_columns_that_are_not_there(tmp_path, monkeypatch, name, select, message):
    monkeypatch.chdir(tmp_path)
    table = pandas.DataFrame({"shape": [0], "scale": [1]})
    written(table, tmp_path / "t.csv", False)
    written(table, tmp_path / "t.parquet", False)
    (tmp_path / "bare.csv").write_text("1,2\n")
    np.save("t.npy", np.eye(2))
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read_table(f"{name}:{select}")
    assert message in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="names of files have no colons there")
def test_colons_in_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("C:table.csv", "table.csv:z", "table.csv"):
        (tmp_path / name).write_text(f"z,a\n{len(name)},0\n")
    assert read_table("C:table.csv").tolist() == [[11, 0]]
    assert read_table("C:table.csv:z").tolist() == [[11]]
    (tmp_path / "table.csv:z").rename(tmp_path / "table.csv:z.csv")
    assert read_table("table.csv:z").tolist() == [[9]]
    assert read_table("table.csv:z.csv").tolist() == [[11, 0]]  # a file that is there wins
    for file in (r"C:\data\table.csv", r"C:\data\table.csv:z*"):
        with pytest.raises(FileNotFoundError, match=r"there is no file C:\\data\\table\.csv; did"):
            read_table(file)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_safetensors(tmp_path, dtype):
    latents = (torch.arange(6).reshape(3, 2) / 2).to(dtype)
    path = tmp_path / "t.safetensors"
    safetensors.torch.save_file({"mean": latents}, path)
    np.testing.assert_array_equal(read_table(path), latents.double())
    safetensors.torch.save_file({"a": torch.arange(3), "f": torch.ones(3, 2, dtype=torch.int32), "mean": latents}, path)
    np.testing.assert_array_equal(read_table(f"{path}:mean"), latents.double())
    assert read_table(path, "a").tolist() == [[0], [1], [2]]
    with pytest.raises(ValueError, match=r"contains 3 arrays \(.*\); there is no array 'mena'; did you mean 'mean'\?"):
        read_table(path, "mena")
    with pytest.raises(ValueError, match=r"select one, as in .*safetensors:f$"):
        read_table(path, labels=True)
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], b"x" * 40):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"t\.safetensors is damaged, or not a \.safetensors file \(.*\); copy or save it again"
        ):
            read_table(path, "mean")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl"])
def test_pickles_are_not_read(tmp_path, suffix):
    """Nor unpickled by halves, as by ``torch.load(weights_only=True)``; only a pickle knows the shape of a .pt."""
    torch.save(torch.eye(2), tmp_path / f"t{suffix}")
    with pytest.raises(
        ValueError, match=r"is a pickle, which betavae never reads.*save the table as \.npy.*numpy\.save\('t"
    ):
        read_table(tmp_path / f"t{suffix}")


def test_text_in_arrays(tmp_path):
    np.save(tmp_path / "t.npy", np.array([["b", "x"], ["a", "x"], ["c", "y"]]))
    assert read_table(tmp_path / "t.npy", labels=True).tolist() == [[1, 0], [0, 0], [2, 1]]
    with pytest.raises(ValueError, match=r"t\.npy contains text, such as 'b', which is allowed for factors only"):
        read_table(tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda whole: whole[:-8],
            r"is damaged, or not a \.npy file \(it has 40 bytes, but its shape \(3, 2\) needs 48\); copy",
        ),
        (
            lambda whole: whole[:20],
            r"is damaged, or not a \.npy file \(it is not a NumPy array\); copy or save it again",
        ),
        (
            lambda whole: b"PK" + whole,
            r"is damaged, or not a \.npy file \(File is not a zip file\); copy or save it again",
        ),
    ],
)
def test_what_was_saved_by_numpy_and_is_damaged_is_not_told_to_be_saved_by_numpy(tmp_path, content, message):
    np.save(tmp_path / "t.npy", np.zeros((3, 2)))
    (tmp_path / "t.npy").write_bytes(content((tmp_path / "t.npy").read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.npy")
    np.save(tmp_path / "t.npy", np.array([[None]]))
    with pytest.raises(
        ValueError, match=r"it contains pickled Python objects, which betavae never reads; save an array of numbers"
    ):
        read_table(tmp_path / "t.npy")


def test_of_several_arrays_the_one_that_looks_right_is_proposed(tmp_path):
    path = tmp_path / "latents.npz"
    np.savez(path, rows=np.arange(3), classes=np.eye(3, dtype=int), mean=np.eye(3), log_var=np.eye(3), bad=[None])
    with pytest.raises(ValueError, match=r"contains 5 arrays \(rows, .*\); select one, as in .*latents\.npz:mean$"):
        read_table(path)
    with pytest.raises(ValueError, match=r"select one, as in .*latents\.npz:classes$"):
        read_table(path, labels=True)
    with pytest.raises(ValueError, match=r"there is no array 'men'; did you mean 'mean'\?"):
        read_table(f"{path}:men")


def test_parquet(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2], "b": [3, 4]}), path)
    assert load_table(path).names == ("a", "b")
    assert read_table(path).tolist() == [[1, 3], [2, 4]]
    sizes = pandas.Categorical(["small", "large", "small"], ["small", "medium", "large"])
    pandas.DataFrame({"size": sizes, "word": ["b", "a", "b"]}).to_parquet(path, row_group_size=1)
    assert read_table(path, labels=True).tolist() == [[0, 1], [2, 0], [0, 1]]  # categories keep their order


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1, None]}, "column 'a' has empty cells; fill them"),
        ({"a": ["x", None]}, "column 'a' has empty cells; fill them"),
        ({"a": [[1], [2]]}, "column 'a' holds list<element: int64>, which is neither numbers nor text"),
        ({"__index_level_0__": [1]}, "has no columns"),
        (
            {"a": ["x" * 1000]},
            "column 'a' contains text, such as '" + "x" * 50 + "...', which is allowed for factors only",
        ),
        ({"a\x1b": [1]}, r"the column name 'a\x1b' has control characters"),
        ([[1], [2]], "has more than one column 'a'; give each column a unique name"),
    ],
)
def test_parquet_that_is_no_table(tmp_path, table, message):
    path = tmp_path / "table.parquet"
    table = pyarrow.table(table) if isinstance(table, dict) else pyarrow.table(table, names=["a", "a"])
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(ValueError, match=r"table\.parquet") as error:
        read_table(path)
    assert message in str(error.value)
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="not a readable Parquet table"):
        read_table(path)


def test_parquet_whose_words_are_damaged(tmp_path):
    path = tmp_path / "t.parquet"
    pandas.DataFrame({"a": ["wordA", "wordB"] * 50}).to_parquet(path, compression="NONE")
    path.write_bytes(path.read_bytes().replace(b"wordB", b"word\xff"))
    with pytest.raises(ValueError, match=r"t\.parquet is not a readable Parquet table: .*UTF8"):
        read_table(path, labels=True)


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured with the resource module")
def test_text_that_occurs_often_takes_no_memory(tmp_path):
    path = tmp_path / "t.parquet"
    words = pyarrow.table({"a": ["x" * 1_000_000] * 100})
    with pyarrow.parquet.ParquetWriter(path, words.schema) as writer:
        for _ in range(20):
            writer.write_table(words)
    program = (
        "import resource, sys; from betavae.metrics import read_table; import pyarrow.parquet\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); table = read_table(sys.argv[1], labels=True); print(len(table), peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 2_000
    assert kilobytes < 300_000  # 2 GB where each row has its text
