"""The gate against regressions: it finds what is worse, says which commit it was, and judges nothing it cannot know."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lossfast as lf
from lossfast._loss import looped

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import check, common  # noqa: E402

needs_compiled = pytest.mark.skipif(lf.get_backend() != "compiled", reason="the baseline is the compiled backend's")
CASE = ("softmax", "value", "float32", "20x5")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function of each kind, and one time."""
    monkeypatch.setattr(common, "names", lambda *kinds: ["huber_loss", "softmax"])
    monkeypatch.setattr(check, "TIMED", (CASE,))
    monkeypatch.setattr(check, "DTYPES", ("float32",))


def verdicts(kind: str, before: dict[str, float], after: dict[str, float], band: float = 1.25) -> dict[str, str]:
    return {change.what: change.verdict(band) for change in check.changes(kind, before, after)}


def test_accuracy_and_bytes_are_exact_and_times_have_a_band() -> None:
    before, after = {"a": 100.0, "b": 100.0, "c": 100.0, "gone": 1.0}, {"a": 101.0, "b": 100.0, "c": 99.0, "new": 1.0}
    expected = {"a": "worse", "b": "the same", "c": "better", "gone": "gone", "new": "new"}
    assert verdicts("bytes", before, after) == expected
    assert verdicts("time", before, after) == {**expected, "a": "the same", "c": "the same"}
    assert verdicts("time", {"a": 1.0, "b": 1.0}, {"a": 1.26, "b": 0.79}) == {"a": "worse", "b": "better"}
    ulp = {"x value, float32, avx2": 0.5}
    assert verdicts("accuracy", ulp, {"x value, float32, avx2": 0.51}) == {"x value, float32, avx2": "worse"}


def test_an_error_that_has_become_infinite_is_worse() -> None:
    assert verdicts("accuracy", {"x, avx2": 0.5}, {"x, avx2": float("inf")}) == {"x, avx2": "worse"}


def test_instruction_sets_that_only_one_of_the_machines_has_are_no_news() -> None:
    before = {"x value, float32, avx2": 0.5, "x value, float32, avx512": 0.5}
    after = {"x value, float32, neon": 9.0, "x value, float32, avx2": 0.5, "y value, float32, avx2": 0.5}
    assert verdicts("accuracy", before, after) == {
        "x value, float32, avx2": "the same",
        "y value, float32, avx2": "new",
    }


def baseline_with(**figures: dict[str, float]) -> dict[str, Any]:
    return {kind: {check.host()[kind]: found} for kind, found in figures.items()}


def test_a_time_is_measured_again_before_it_counts_as_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def times(seconds: float, only: list[str]) -> dict[str, float]:
        asked.append(list(only))
        return {what: 1.1 if what == "busy" and len(asked) == 2 else 2.0 for what in only}

    monkeypatch.setattr(check, "times", times)
    baseline = baseline_with(time={"busy": 1.0, "slower": 1.0, "fine": 1.0})
    found, untold = check.judge({"time": {"busy": 3.0, "slower": 3.0, "fine": 1.0}}, baseline, 1.25, 0.0)
    assert asked == [["busy", "slower"]] * (check.ATTEMPTS - 1) and untold == []
    assert {c.what: (c.after, c.verdict(1.25)) for c in found} == {
        "busy": (1.1, "the same"),
        "slower": (2.0, "worse"),
        "fine": (1.0, "the same"),
    }


def test_what_the_baseline_does_not_know_is_told_and_not_judged() -> None:
    baseline = {"time": {"another processor": {"a": 1.0}}, "accuracy": {"": {"x, avx2": 1.0}}}
    found, untold = check.judge({"time": {"a": 9.0}, "accuracy": {"x, avx2": 1.0}}, baseline, 1.25, 0.0)
    assert [change.kind for change in found] == ["accuracy"]
    assert len(untold) == 1 and untold[0].startswith(f"time: the baseline has nothing for {common.cpu()}")


def test_an_update_keeps_what_other_machines_found() -> None:
    old = {
        "band": 1.5,
        "time": {"another processor": {"a": 1.0}},
        "accuracy": {"": {"x, avx2": 1.0, "y, avx2": 1.0, "x, neon": 2.0}},
    }
    made = check.updated(old, {"time": {"a": 3.0}, "accuracy": {"x, avx2": 0.5}, "bytes": {"a": 7.0}})
    assert made["band"] == 1.5
    assert made["time"] == {"another processor": {"a": 1.0}, check.host()["time"]: {"a": 3.0}}
    assert made["accuracy"] == {"": {"x, neon": 2.0, "x, avx2": 0.5}}
    assert made["bytes"] == {check.host()["bytes"]: {"a": 7.0}}
    assert old["accuracy"][""]["x, avx2"] == 1.0


@needs_compiled
def test_the_gate_opens_and_closes(few: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "baseline.json"
    options = ["--baseline", str(file), "--seconds", "0", "--band", "1000"]
    assert check.main([*options, "--update"]) == 0
    baseline = json.loads(file.read_text())
    assert {kind: set(baseline[kind]) for kind in check.KINDS} == {kind: {check.host()[kind]} for kind in check.KINDS}
    assert {key.split()[0] for key in baseline["bytes"][check.host()["bytes"]]} == {"huber_loss", "softmax"}
    capsys.readouterr()
    assert check.main(options) == 0
    assert "0 worse, 0 better, 0 new, 0 gone" in capsys.readouterr().out
    for kind in check.KINDS:
        changed = copy.deepcopy(baseline)
        found = changed[kind][check.host()[kind]]
        what = next(key for key, value in found.items() if value)
        found[what] = found[what] / 1e7 if kind == "time" else found[what] - 0.01
        file.write_text(json.dumps(changed))
        assert check.main(options) == 1
        printed = capsys.readouterr().out
        (row,) = (line for line in printed.splitlines() if "WORSE" in line)
        assert row.startswith(kind) and what in row and "1 worse" in printed
        others = [name for name in check.KINDS if name != kind]
        assert check.main([*options, *(word for name in others for word in ("--kind", name))]) == 0
        capsys.readouterr()


@needs_compiled
def test_accuracy_and_bytes_are_the_same_every_time(few: None) -> None:
    first, again = (check.measure(("accuracy", "bytes"), 0) for _ in range(2))
    assert first == again and len(first["accuracy"]) >= 2 * len(lf.isas()) and len(first["bytes"]) >= 5


def test_bytes_are_kept_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "sizes", lambda names: {"x": 1234567.0})
    assert check.measure(["bytes"]) == {"bytes": {"x": 1234567.0}}


@needs_compiled
def test_infinite_errors_are_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "accuracies", lambda names: {"x, avx2": float("inf")})
    with pytest.raises(SystemExit, match="infinitely wrong: x, avx2"):
        check.main(["--update", "--kind", "accuracy", "--baseline", str(tmp_path / "baseline.json")])
    assert not list(tmp_path.iterdir())


def test_every_loss_has_its_bytes_counted_and_times_name_losses() -> None:
    assert {loss.kind for loss in looped().values()} <= set(check.SIZED)
    for name, method, dtype, shape in check.TIMED:
        assert name in lf.losses() and method in common.methods(lf.get_loss(name).kind)
        assert dtype in check.DTYPES and common.shape_of(shape)


def test_the_committed_baseline_can_be_read() -> None:
    baseline = json.loads(check.BASELINE.read_text())
    assert baseline["band"] > 1 and set(check.KINDS) < set(baseline)
    assert baseline["accuracy"][""]
    for kind in check.KINDS:
        for found in baseline[kind].values():
            assert all(isinstance(value, float) and value >= 0 for value in found.values())
    for found in baseline["time"].values():
        assert set(found) <= {check.case_name(*case) for case in check.TIMED}


# ------------------------------------------------------------------------------------------------------ commits


def test_the_commit_that_moved_something_is_named() -> None:
    def figures(ulp: float, size: float, ratio: float) -> check.Figures:
        return {"accuracy": {"x, avx2": ulp}, "bytes": {"x": size}, "time": {"x": ratio}}

    history = [
        ("a", figures(0.5, 100, 1.0)),
        ("b", figures(0.5, 100, 1.1)),
        ("c", figures(0.6, 100, 1.2)),
        ("d", figures(0.6, 90, 1.3)),  # by itself within the band, but not with what came before
        ("e", figures(0.6, 90, 1.2)),
    ]
    found = [(commit, c.kind, c.before, c.after, c.verdict(1.25)) for commit, c in check.moves(history, 1.25)]
    assert found == [
        ("c", "accuracy", 0.5, 0.6, "worse"),
        ("d", "bytes", 100, 90, "better"),
        ("d", "time", 1.0, 1.3, "worse"),
    ]


def test_losses_that_come_and_go_are_named_once() -> None:
    history = [("a", {"bytes": {"x": 1.0}}), ("b", {"bytes": {"y": 1.0}}), ("c", {"bytes": {"y": 1.0}})]
    assert [(commit, c.what, c.verdict(1)) for commit, c in check.moves(history, 1)] == [
        ("b", "x", "gone"),
        ("b", "y", "new"),
    ]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four commits, oldest first, in a repository that stands for this one."""
    root = tmp_path / "repository"
    root.mkdir()

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *names, *arguments], cwd=root, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    made = []
    for number in range(4):
        (root / "setup.py").write_text(f"raise SystemExit('no compiler for {number}')\n")
        git("add", ".")
        git("commit", "--quiet", "-m", f"step {number}")
        made.append(git("rev-parse", "HEAD"))
    monkeypatch.setattr(common, "ROOT", root)
    return made


def test_a_range_has_both_its_ends(repository: list[str]) -> None:
    assert check.commits(["HEAD~2..HEAD"]) == repository[1:]
    assert check.commits(["HEAD", "HEAD~3", "HEAD"]) == [repository[3], repository[0]]
    with pytest.raises(SystemExit, match="git rev-parse"):
        check.commits(["nonsense"])


def test_commits_are_measured_in_trees_that_are_removed(
    repository: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    built = []

    def build(tree: Path) -> None:
        built.append((tree / "setup.py").read_text())

    def measure_in(tree: Path, kinds: Any, seconds: float) -> check.Figures:
        assert tree.is_dir()
        return {"bytes": {"x": 100.0 if "for 3" in built[-1] else 90.0}}

    monkeypatch.setattr(check, "build", build)
    monkeypatch.setattr(check, "measure_in", measure_in)
    assert check.main(["--commits", "HEAD~3..HEAD"]) == 1
    assert len(built) == 4
    row = capsys.readouterr().out.splitlines()[1]
    assert row.startswith(repository[3][:12]) and "step 3" in row and row.endswith("worse")
    assert len(check.git("worktree", "list").splitlines()) == 1
    assert check.main(["--commits", "HEAD~3..HEAD~1"]) == 0
    assert "nothing moved in 3 commits" in capsys.readouterr().out


def test_a_commit_that_does_not_build_is_told(repository: list[str], capsys: pytest.CaptureFixture) -> None:
    assert check.main(["--commits", "HEAD"]) == 1
    told = capsys.readouterr().err
    assert f"{repository[3][:12]}: it does not build:" in told and "no compiler for 3" in told
    assert len(check.git("worktree", "list").splitlines()) == 1


@needs_compiled
def test_a_tree_is_measured_with_its_own_library(tmp_path: Path) -> None:
    if not list((ROOT / "lossfast" / "kernels").glob("buffers*.so")):
        pytest.skip("the extension is not built in place")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "lossfast", tree / "lossfast", ignore=shutil.ignore_patterns("*.c", "*.h", "__pycache__"))
    names = ["huber_loss", "softmax"]
    found = check.measure_in(tree, ["bytes"], 0, names)
    assert {what.split()[0] for what in found["bytes"]} == set(names)
    assert found["bytes"] == pytest.approx(check.measure(["bytes"], 0, names)["bytes"], rel=0.01)
    with pytest.raises(RuntimeError, match="(?s)it cannot be measured.*not "):
        check.measure_in(tmp_path / "empty", ["bytes"], 0)
