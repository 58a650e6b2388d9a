"""The command line, as a process of its own wherever that matters."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lossfast as lf
from lossfast import io
from lossfast._loss import looped
from lossfast.cli import main, to_json

ROWS, CLASSES = 501, 5
KEYS = {
    *("loss", "value", "reduction", "n", "weight_sum", "nan_rows", "inf_rows", "dtype", "backend", "isa", "threads"),
    *("seconds", "rows_per_second", "version", "inputs"),
}


def command(*args, stdin=None, env=None):
    """The command as a user runs it: exit code, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "lossfast", *map(str, args)],
        input=stdin,
        capture_output=True,
        env={**os.environ, "LOSSFAST_BACKEND": "numpy", **(env or {})},
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(autouse=True)
def numpy_backend():
    """The reference, which needs no compiler and no compilation; the backends have tests of their own."""
    with lf.use_backend("numpy"):
        yield


@pytest.fixture
def run(capsys):
    """The command in this process: the same, but without the second that a new one takes."""

    def run(*args):
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, ROWS)
    labels[::50] = -100
    soft = random.dirichlet(np.ones(CLASSES), ROWS)
    return {
        "logits": (random.normal(size=(ROWS, CLASSES)) * 4).astype(np.float32),
        "labels": labels,
        "soft": soft,
        "weight": random.random(ROWS),
        "pred": random.normal(size=ROWS),
        "target": random.random(ROWS),
        "where": random.random((ROWS, CLASSES)) < 0.8,
    }


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """Everything in `data` as a .npy, and the logits and labels in every form that needs NumPy alone."""
    folder = tmp_path_factory.mktemp("files")
    for name, array in data.items():
        np.save(folder / f"{name}.npy", array)
    logits, labels = data["logits"], data["labels"]
    np.save(folder / "fortran.npy", np.asfortranarray(logits))
    np.save(folder / "big_endian.npy", logits.astype(">f4"))
    for version in (2, 3):
        with (folder / f"version{version}.npy").open("wb") as file:
            np.lib.format.write_array(file, logits, version=(version, 0))
    np.savez(folder / "stored.npz", logits=logits, labels=labels, fortran=np.asfortranarray(logits))
    np.savez_compressed(folder / "deflated.npz", logits=logits, labels=labels, fortran=np.asfortranarray(logits))
    names = ",".join(f"z{c}" for c in range(CLASSES))
    lines = [",".join(map(repr, row)) for row in logits.tolist()]
    (folder / "plain.csv").write_text("\n".join(lines))
    (folder / "named.csv").write_text(
        names + ',"y"\n' + "\n".join(f"{r},{y}" for r, y in zip(lines, labels, strict=True))
    )
    return folder


@pytest.fixture(scope="module")
def arrow_files(data, files):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    logits = data["logits"]
    columns = {
        "logits": arrow.FixedSizeListArray.from_arrays(logits.ravel(), CLASSES),
        "lists": arrow.array(logits.tolist(), arrow.list_(arrow.float32())),
        "y": arrow.array(data["labels"]),
        **{f"z{c}": logits[:, c] for c in range(CLASSES)},
        "text": ["a"] * ROWS,
        "gap": arrow.array([None] + [1.0] * (ROWS - 1)),
        "ragged": arrow.array([[1.0]] * 400 + [[1.0, 2.0]] * (ROWS - 400)),
    }
    table = arrow.table(columns)
    parquet.write_table(table, files / "table.parquet", row_group_size=97)
    with arrow.ipc.new_file(files / "file.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=97)
    with arrow.ipc.new_stream(files / "stream.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=97)
    return files


def read(spec, rows=64, **options):
    table = io.open(spec, **options)
    chunks = [chunk.copy() for chunk in table.chunks(rows)]
    assert all(len(chunk) == rows for chunk in chunks[:-1])
    whole = np.concatenate(chunks)
    assert (whole.shape, chunks[0].dtype) == (table.shape, table.dtype)
    return whole


# ------------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    "spec",
    (
        *("logits.npy", "fortran.npy", "big_endian.npy", "version2.npy", "version3.npy"),
        *(f"{kind}.npz:{key}" for kind in ("stored", "deflated") for key in ("logits", "fortran")),
        *("plain.csv", "named.csv:z0,z1,z2,z3,z4", "named.csv:0-4", "plain.csv:0,1-3,4"),
    ),
)
@pytest.mark.parametrize("rows", (1, 64, ROWS, 10_000))
def test_reads_what_was_written(files, data, spec, rows):
    np.testing.assert_array_equal(read(f"{files / spec}", rows), data["logits"], strict=False)


@pytest.mark.parametrize("file", ("table.parquet", "file.arrow", "stream.arrow"))
@pytest.mark.parametrize("column", ("logits", "lists", "z0,z1,z2,z3,z4"))
def test_reads_columns(arrow_files, data, file, column):
    np.testing.assert_array_equal(read(f"{arrow_files / file}:{column}"), data["logits"], strict=True)
    np.testing.assert_array_equal(read(f"{arrow_files / file}:y"), data["labels"], strict=True)


@pytest.mark.parametrize("dtype", ("float64", "float32", "float16", "bfloat16", "int8", "uint64", "bool"))
def test_reads_safetensors(data, tmp_path, dtype):
    safetensors = pytest.importorskip("safetensors.numpy")
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    array = data["logits"].astype(dtype)
    safetensors.save_file({"x": array, "y": data["labels"]}, tmp_path / "t.safetensors")
    result = read(f"{tmp_path / 't.safetensors'}:x")
    np.testing.assert_array_equal(result, array.astype(np.float32) if array.dtype.name == "bfloat16" else array)
    assert (result.dtype == array.dtype) or (result.dtype, array.dtype.name) == (np.float32, "bfloat16")


def test_labels_of_a_csv_are_integers(files, data):
    np.testing.assert_array_equal(read(f"{files / 'named.csv'}:y", integer=True), data["labels"], strict=True)


def test_standard_input(files, data):
    stdin = (files / "logits.npy").read_bytes()
    code, out, err = command("eval", "cross_entropy", "-", files / "labels.npy", stdin=stdin)
    assert (code, err) == (0, "")
    assert json.loads(out)["value"] == lf.cross_entropy(data["logits"], data["labels"])


@pytest.mark.parametrize("name", ("x.npy", "x.npz:a", "x.csv"))
def test_no_rows(run, tmp_path, name):
    np.save(tmp_path / "x.npy", np.zeros((0, 3)))
    np.save(tmp_path / "y.npy", np.zeros(0, int))
    np.savez(tmp_path / "x.npz", a=np.zeros((0, 3)))
    (tmp_path / "x.csv").write_text("a,b,c\n")
    code, out, _ = run("eval", "cross_entropy", tmp_path / name, tmp_path / "y.npy", "--out", tmp_path / "o.npy")
    report = json.loads(out)
    assert (code, report["value"], report["n"]) == (0, "NaN", 0)
    assert np.load(tmp_path / "o.npy").shape == (0,)


# ----------------------------------------------------------------------------------------------- values and streams

WEIGHTS = ("--sample-weight", "weight.npy")
CASES = (
    ("cross_entropy", "labels", (), {}),
    ("cross_entropy", "soft", (), {}),
    ("cross_entropy", "labels", WEIGHTS, {"sample_weight": "weight"}),
    ("cross_entropy", "labels", ("--class-weight", "1,2,0,0.5,3"), {"class_weight": [1, 2, 0, 0.5, 3]}),
    (
        "cross_entropy",
        "labels",
        ("--label-smoothing", "0.1", "--temperature", "2"),
        {"label_smoothing": 0.1, "temperature": 2},
    ),
    ("cross_entropy", "soft", ("--where", "where.npy"), {"where": "where"}),
    ("cross_entropy", "labels", ("--ignore-index", "2", "--check", "false"), {"ignore_index": 2, "check": False}),
    ("quadratic_softmax_loss", "labels", (), {}),
    ("focal_loss", "labels", ("--gamma", "1.5", "--alpha", "0.25"), {"gamma": 1.5, "alpha": 0.25}),
    ("poly_loss", "soft", ("--epsilon", "-0.5"), {"epsilon": -0.5}),
    (
        "multiclass_hinge_loss",
        "labels",
        ("--variant", "weston_watkins", "--p", "2", "--margin", "0.5"),
        {"variant": "weston_watkins", "p": 2, "margin": 0.5},
    ),
    ("nll_loss", "labels", WEIGHTS, {"sample_weight": "weight"}),
    ("kl_div_from_logits", "soft", (*WEIGHTS, "--temperature", "2"), {"sample_weight": "weight", "temperature": 2}),
    ("kl_div_from_logits", "soft", ("--where", "where.npy"), {"where": "where"}),
    ("binary_cross_entropy_with_logits", "soft", ("--pos-weight", "3"), {"pos_weight": 3}),
    ("binary_cross_entropy_with_logits", "soft", WEIGHTS, {"sample_weight": "weight"}),
    ("huber_loss", "target", ("--delta", "0.5"), {"delta": 0.5}),
    ("mse_loss", "target", WEIGHTS, {"sample_weight": "weight"}),
)


@pytest.mark.parametrize("reduction", ("mean", "sum", "batchmean", "none"))
@pytest.mark.parametrize(("loss", "targets", "args", "options"), CASES)
def test_stream_equals_whole(run, files, data, tmp_path, loss, targets, args, options, reduction):
    x = "pred" if targets == "target" else "logits"
    options = {key: data.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
    args = [str(files / arg) if arg.endswith(".npy") else arg for arg in args]
    code, out, err = run(
        *("eval", loss, files / f"{x}.npy", files / f"{targets}.npy", *args, "--reduction", reduction),
        *("--chunk-rows", 77, "--out", tmp_path / "losses.npy", "--grad-out", tmp_path / "grad.npy"),
    )
    assert (code, err) == (0, "")
    report = json.loads(out)
    value, grad = lf.get_loss(loss).value_and_grad(data[x], data[targets], reduction=reduction, **options)
    rows = lf.get_loss(loss)(data[x], data[targets], reduction="none", **options)
    if reduction == "none":
        assert report["value"] is None
    else:
        assert float(report["value"]) == pytest.approx(value, rel=1e-15, nan_ok=True)
    assert KEYS <= report.keys()
    assert (report["n"], report["dtype"]) == (rows.size, str(data[x].dtype))
    assert report["nan_rows"] == np.isnan(rows).sum()
    np.testing.assert_array_equal(np.load(tmp_path / "losses.npy"), rows, strict=True)
    written = np.load(tmp_path / "grad.npy")
    assert written.dtype == grad.dtype
    np.testing.assert_allclose(written, grad, rtol=np.finfo(grad.dtype).eps)


def test_images(run, tmp_path):
    """A class axis in the middle, labels of several dimensions."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3, 4, 2)), random.integers(0, 3, (20, 4, 2))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    arguments = ("eval", "cross_entropy", tmp_path / "x.npy", tmp_path / "y.npy", "--axis", 1)
    code, out, err = run(*arguments, "--chunk-rows", 3, "--out", tmp_path / "o.npy")
    assert (code, err) == (0, "")
    assert json.loads(out)["value"] == pytest.approx(lf.cross_entropy(x, y, axis=1), rel=1e-15)
    assert json.loads(out)["n"] == y.size
    assert np.load(tmp_path / "o.npy").shape == y.shape
    y[13, 2, 1] = 9
    np.save(tmp_path / "y.npy", y)
    assert (
        "target 9 at row (13, 2, 1) is out of bounds for 3 classes (1 such row)"
        in run(*arguments, "--chunk-rows", 3)[2]
    )


def test_odd_rows_are_counted(run, tmp_path):
    x = np.zeros((10, 2))
    x[3] = np.nan
    x[5] = -np.inf, 0
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.zeros(10, int))
    for size in (1, 4, 100):
        report = json.loads(
            run("eval", "cross_entropy", tmp_path / "x.npy", tmp_path / "y.npy", "--chunk-rows", size)[1]
        )
        assert (report["value"], report["nan_rows"], report["inf_rows"]) == ("NaN", 1, 1)


def test_dtype(run, files, data):
    report = json.loads(
        run("eval", "cross_entropy", files / "logits.npy", files / "labels.npy", "--dtype", "float64")[1]
    )
    assert report["value"] == pytest.approx(lf.cross_entropy(data["logits"].astype(float), data["labels"]), rel=1e-15)
    assert (report["dtype"], report["inputs"]["logits"]["dtype"]) == ("float64", "float32")


def test_gradient_of_labels_from_standard_input(files, data, tmp_path):
    """The first of the two passes reads the labels; they are kept for the second."""
    stdin = (files / "labels.npy").read_bytes()
    code, _, err = command(
        *("eval", "cross_entropy", files / "logits.npy", "-", "--grad-out", tmp_path / "g.npy"), stdin=stdin
    )
    assert (code, err) == (0, "")
    grad = lf.cross_entropy.grad(data["logits"], data["labels"])
    np.testing.assert_array_almost_equal_nulp(np.load(tmp_path / "g.npy"), grad, 4)


# ------------------------------------------------------------------------------------------------ exit codes, errors


@pytest.mark.parametrize(("limit", "expected"), ((1e9, 0), (1e-9, 1), ("nan", 1)))
def test_threshold(run, files, limit, expected):
    code, out, err = run("eval", "mse_loss", files / "pred.npy", files / "target.npy", "--fail-above", limit)
    assert (code, err) == (expected, "")
    assert json.loads(out)["loss"] == "mse_loss"


@pytest.fixture(scope="module")
def broken(files):
    """Files that cannot be read, by name."""
    whole = (files / "logits.npy").read_bytes()
    wrong = np.load(files / "labels.npy")
    wrong[[200, 400]] = 7
    np.save(files / "wrong_labels.npy", wrong)
    np.save(files / "float_labels.npy", wrong.astype(float))
    np.save(files / "short.npy", wrong[:-1])
    np.save(files / "objects.npy", np.array([None, 1]), allow_pickle=True)
    np.save(files / "scalar.npy", np.array(1.0))
    np.savez(files / "objects.npz", x=np.array([None, 1]))
    contents = {
        "truncated.npy": whole[:-1],
        "header_only.npy": whole[:20],
        "empty.npy": b"",
        "not.npy": b"hello, world",
        "huge.npy": whole[:10] + whole[10:].replace(b"(501, 5)", b"(9999999999, 9999)")[: len(whole)],
        "code.npy": b"\x93NUMPY\x01\x00\x14\x00__import__('os')   \n",
        "not.npz": b"hello, world",
        "truncated.npz": (files / "deflated.npz").read_bytes()[:-400],
        "ragged.csv": b"a,b\n1,2\n3\n",
        "words.csv": b"a,b\n1,2\n\n3,x\n",
        "missing.csv": b"1,2\n3,\n",
        "latin.csv": b"a\xff,b\n1,2\n",
        "empty.csv": b"\n",
        "not.safetensors": b"hello, hello, hello",
        "lies.safetensors": (60).to_bytes(8, "little")
        + b'{"x":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}  ',
    }
    for name, content in contents.items():
        (files / name).write_bytes(content)
    return files


FILE_ERRORS = (
    ("nowhere.npy", "no such file"),
    ("logits.txt", "not a .npy"),
    ("logits.npy:x", "one array"),
    ("truncated.npy", "truncated"),
    ("header_only.npy", "truncated"),
    ("empty.npy", "is empty"),
    ("not.npy", "not in .npy format"),
    ("huge.npy", "truncated"),
    ("code.npy", "header cannot be read"),
    ("objects.npy", "never unpickled"),
    ("objects.npz:x", "never unpickled"),
    ("scalar.npy", "single number"),
    ("not.npz", "not a zip file"),
    ("truncated.npz", ""),
    ("stored.npz", "there are logits, labels"),
    ("stored.npz:x", "no array 'x'"),
    ("ragged.csv", "line 3 has 1 fields"),
    ("words.csv", "line 4: 'x' in column b"),
    ("missing.csv", "line 2: '' in column 1"),
    ("latin.csv", "can't decode"),
    ("empty.csv", "is empty"),
    ("named.csv:nope", "no column 'nope'"),
    ("not.safetensors", "header"),
    ("lies.safetensors:x", "truncated"),
)


@pytest.mark.parametrize(("spec", "message"), FILE_ERRORS)
def test_bad_file(run, broken, tmp_path, spec, message):
    code, out, err = run("eval", "mse_loss", broken / spec, broken / spec, "--out", tmp_path / "o.npy")
    assert (code, out) == (2, "")
    assert err.startswith("lossfast: error: ") and err.count("\n") == 1
    assert message in err
    assert Path(spec.partition(":")[0]).name in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "message"),
    (
        ("text", "of type string, not of numbers"),
        ("gap", "null at row 0"),
        ("ragged", "2 entries at row 400, but 1 at row 0"),
        ("logits,y", "can only be read alone"),
        ("nope", "no column 'nope'"),
    ),
)
@pytest.mark.parametrize("file", ("table.parquet", "file.arrow", "stream.arrow"))
def test_bad_column(arrow_files, file, column, message):
    with pytest.raises(io.FileError, match=message):
        io.open(f"{arrow_files / file}:{column}").array()


ERRORS = (
    (("eval",), "arguments are required"),
    (("eval", "no_such_loss", "logits.npy", "labels.npy"), "invalid choice: 'no_such_loss'"),
    (("eval", "softmax", "logits.npy", "labels.npy"), "invalid choice: 'softmax'"),
    (("eval", "cross_entropy", "logits.npy"), "arguments are required: TARGETS"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--nonsense"), "--nonsense"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--delta", "1"), "cross_entropy has no option --delta"),
    (("eval", "mse_loss", "pred.npy", "target.npy", "--class-weight", "1,2"), "mse_loss has no option --class-weight"),
    (("eval", "huber_loss", "pred.npy", "target.npy", "--delta", "0"), "delta must be > 0, got 0.0"),
    (("eval", "huber_loss", "pred.npy", "target.npy", "--delta", "x"), "invalid float value: 'x'"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--class-weight", "1,2"), "class_weight has shape (2,)"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--class-weight", "no.npy"), "no such file"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--axis", "0"), "--axis"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--axis", "7"), "out of range"),
    (("eval", "cross_entropy", "pred.npy", "labels.npy"), "no rows of classes"),
    (("eval", "cross_entropy", "logits.npy", "short.npy"), "has 500 rows"),
    (
        ("eval", "cross_entropy", "logits.npy", "wrong_labels.npy"),
        "target 7 at row 200 is out of bounds for 5 classes (2",
    ),
    (("eval", "cross_entropy", "logits.npy", "float_labels.npy"), "integer"),
    (("eval", "cross_entropy", "logits.npy", "soft.npy", "--check", "distribution", "--axis", "9"), "out of range"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--reduction", "none"), "--out"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--chunk-rows", "0"), "at least 1"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--backend", "fortran"), "invalid choice: 'fortran'"),
    (("eval", "cross_entropy", "-", "-"), "only one"),
    (("eval", "cross_entropy", "logits.npy", "labels.npy", "--grad-out", "logits.npy"), "written over"),
    (("frobnicate",), "invalid choice: 'frobnicate'"),
    ((), "required"),
)


@pytest.mark.parametrize(("args", "message"), ERRORS)
def test_bad_usage(run, broken, tmp_path, args, message):
    args = [str(broken / arg) if arg.endswith(".npy") else arg for arg in args]
    if len(args) > 3:
        args += ["--out", str(tmp_path / "losses.npy")] if "none" not in args else []
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err.startswith("lossfast: error: ") and err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("two_passes", (False, True))
def test_an_error_midway_leaves_what_was_there(run, broken, tmp_path, two_passes):
    for name in ("o.npy", "g.npy"):
        (tmp_path / name).write_text("precious")
    outputs = ("--out", tmp_path / "o.npy", *(("--grad-out", tmp_path / "g.npy") if two_passes else ()))
    code, _, _ = run(
        "eval", "cross_entropy", broken / "logits.npy", broken / "wrong_labels.npy", "--chunk-rows", 10, *outputs
    )
    assert code == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"o.npy": "precious", "g.npy": "precious"}


@pytest.mark.parametrize("place", ("no/such/folder/o.npy", "."))
def test_unwritable_output(run, files, tmp_path, place):
    code, out, err = run(
        "eval", "mse_loss", files / "pred.npy", files / "target.npy", "--out", os.path.join(tmp_path, place)
    )
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_empty_raise_writes_nothing(run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    np.save(tmp_path / "y.npy", np.full(3, -100))
    arguments = ("eval", "cross_entropy", tmp_path / "x.npy", tmp_path / "y.npy", "--out", tmp_path / "o.npy")
    code, _, err = run(*arguments, "--empty", "raise")
    assert (code, err.count("\n"), (tmp_path / "o.npy").exists()) == (2, 1, False)
    assert json.loads(run(*arguments, "--empty", "zero")[1])["value"] == 0
    assert json.loads(run(*arguments)[1])["value"] == "NaN"
    for empty in ("zero", "nan"):  # weighed first, in several chunks: the gradient of nothing is 0
        code, *_ = run(*arguments, "--empty", empty, "--grad-out", tmp_path / "g.npy", "--chunk-rows", 2)
        assert code == 0 and (np.load(tmp_path / "g.npy") == 0).all()


@pytest.mark.parametrize("sent", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_signal_leaves_nothing_behind(files, tmp_path, sent):
    """The labels come through a pipe that stays open, so that the command waits in the middle of its work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lossfast", "eval", "cross_entropy", str(files / "logits.npy"), "-"]
        + ["--chunk-rows", "10", "--out", str(tmp_path / "o.npy")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LOSSFAST_BACKEND": "numpy"},
    )
    process.stdin.write((files / "labels.npy").read_bytes()[:1000])
    process.stdin.flush()
    for _ in range(300):
        if list(tmp_path.iterdir()):
            break
        time.sleep(0.05)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert process.returncode == (130 if sent == signal.SIGINT else 143)
    assert b"Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is POSIX's")
def test_closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "lossfast", "ls"], stdout=writer, stderr=subprocess.PIPE, timeout=30)
    os.close(writer)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


# ------------------------------------------------------------------------------------------------- other commands


@pytest.mark.parametrize("args", ((), ("eval",), ("ls",), ("info",), ("check",), ("demo",)))
def test_help(capsys, args):
    with pytest.raises(SystemExit) as left:
        main([*args, "--help"])
    assert left.value.code == 0
    assert "usage: lossfast" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    heavy = ("numba", "sklearn", "scipy", "pyarrow", "matplotlib", "tqdm", "safetensors", "dask", "lossfast.io")
    code = (
        "import sys\nfrom lossfast.cli import main\n"
        "try:\n    main(['eval', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == "[]"


def test_ls(run):
    code, out, _ = run("ls", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)["losses"]}
    assert code == 0 and tuple(entries) == lf.losses()
    for name, entry in entries.items():
        loss = lf.get_loss(name)
        assert entry["ulp"] == loss.ulp and set(entry["parameters"]) == set(loss.parameters) and entry["summary"]
    text = run("ls")[1]
    assert all(name in text for name in lf.losses())


def test_every_parameter_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    text = capsys.readouterr().out
    for name in lf.losses():
        loss = lf.get_loss(name)
        if loss.kind in ("pointwise", "rowwise"):
            assert name in text
            for parameter in (*loss.parameters, *filter(None, [loss.extra])):
                assert f"--{parameter.replace('_', '-')}" in text


def test_info():
    code, out, _ = command("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["version"], facts["backend"]) == (lf.__version__, "numpy")
    assert facts["backends"]["numpy"] == "available"


def test_check(run):
    code, out, _ = run("check", "--backend", "numpy", "--json")
    report = json.loads(out)
    assert {result["loss"] for result in report["results"]} == set(looped())
    assert (code, report["broken"], report["failures"]) == (0, 0, [])
    assert report["reference_ulp"] < 0.1


def test_check_finds_a_loss_that_is_off(run, monkeypatch):
    """A backend that is wrong in the 14th digit must not pass."""
    from lossfast import selftest

    right = selftest._results

    def wrong(loss, arguments):
        return {name: result * (1 + 1e-14) for name, result in right(loss, arguments).items()}

    monkeypatch.setattr(selftest, "_results", wrong)
    code, out, _ = run("check", "--backend", "numpy")
    assert code == 1 and "*" in out and "bounds broken" in out


def test_check_takes_infinity_for_what_is_beyond_the_range():
    """And for nothing else; NaN is never hidden by the comparison with a bound."""
    from lossfast.selftest import worst_ulp

    most = float(np.finfo(np.float32).max)
    right = [(math.inf, 1e60), (-math.inf, -1e60), (math.inf, math.inf), (most, most), (math.nan, math.nan)]
    near = [(math.inf, most), (most, most + 0.75 * 2.0**104)]
    wrong = [(most, 1e60), (most, math.inf), (math.inf, 1.0), (-math.inf, 1e60), (math.nan, 1.0), (1.0, math.nan)]

    def off(got, exact):
        return worst_ulp(np.array([got], np.float32), np.array([exact], np.longdouble), 0)

    assert [off(*pair) for pair in right] == [0] * len(right)
    assert [off(*pair) for pair in near] == [1, 0.75]
    assert min(off(*pair) for pair in wrong) > 1e6


def test_demo(run, tmp_path, monkeypatch):
    for module in ("sklearn", "matplotlib"):
        pytest.importorskip(module)
    monkeypatch.setenv("LOSSFAST_BACKEND", "numpy")
    code, out, _ = run("demo", "--output-dir", tmp_path, "--json")
    report = json.loads(out)
    assert code == 0
    models = report["models"]
    assert models["cross-entropy"]["accuracy"] > 0.9
    labels = np.load(tmp_path / "labels.npy")
    for name, loss in (("cross-entropy", "cross_entropy"), ("quadratic", "quadratic_softmax_loss")):
        logits = np.load(tmp_path / f"{loss}-logits.npy")
        assert models[name]["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
        assert models[name]["test_loss"][name] == pytest.approx(lf.get_loss(loss)(logits, labels), rel=1e-14)
    losses = [entry["loss"] for entry in report["hardest"]]
    assert len(losses) == 10 and losses == sorted(losses, reverse=True)
    assert (tmp_path / "hardest.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"),
    ((0.1, "0.10000000000000001"), (2.0, "2.0"), (1e300, "1.0000000000000001e+300"), (3, "3"), (None, "null"))
    + ((math.nan, '"NaN"'), (math.inf, '"Infinity"'), (-math.inf, '"-Infinity"'), ([1, 2.5], "[1, 2.5]"), ({}, "{}")),
)
def test_json(value, text):
    assert to_json(value) == text


def test_version_and_module(run):
    code, out, _ = command("--version")
    assert (code, out.split()) == (0, ["lossfast", lf.__version__])
