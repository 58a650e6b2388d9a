"""The documentation's page on performance, and the README's part: made of what the programs write and nothing else."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lossfast as lf

ROOT = Path(__file__).resolve().parent.parent
if not ((ROOT / "benchmarks").is_dir() and (ROOT / "docs").is_dir()):
    pytest.skip("neither benchmarks nor documentation are part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import common, growth, peers, performance, targets  # noqa: E402

Report = dict[str, Any]
SHAPES = ("6x3", "20x4", "7")


@pytest.fixture(scope="module")
def page() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "_ext"))
        spec = importlib.util.spec_from_file_location(
            "performance_page", ROOT / "docs" / "_ext" / "performance_page.py"
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What the programs write, of the smallest inputs."""
    directory, interleaved = tmp_path_factory.mktemp("measured"), common.interleaved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "interleaved", lambda calls, *_, **__: interleaved(calls, 0.0, 1))
        patch.setattr(growth, "QUICK_CLASSES", (2, 30))
        patch.setattr(growth, "LAID_OUT", (("cross_entropy", "100x10"), ("huber_loss", "100x10")))
        patch.setattr(
            growth, "in_workers", lambda quick: [{"backend": "loky", "workers": 2, "threads": 1, "rate": 1.0}]
        )
        patch.setitem(growth.PARTS, "workers", growth.in_workers)
        patch.setattr(common, "in_child", lambda function, *arguments: 5000)
        patch.setattr(targets, "SPEEDS", (*targets.SPEEDS[9:11], targets.SPEEDS[0]))
        patch.setattr(growth, "BY_ELEMENTS", growth.BY_ELEMENTS[:2])
        patch.setattr(growth, "BY_THREADS", growth.BY_THREADS[:2])
        patch.setattr(targets, "THREADED", ())
        common_options = ["--peer", "numpy", "--peer", "sklearn", "--seconds", "0"]
        shapes = [word for shape in SHAPES for word in ("--shape", shape)]
        peers.main([*common_options, *shapes, "--isa", "all", "--json", str(directory / "peers.json")])
        found = {"peers": json.loads((directory / "peers.json").read_text())}
        if lf.get_backend() != "compiled":
            pytest.skip("nothing was promised of the other backends")
        against = ["--peers", str(directory / "peers.json")]
        targets.main(["--quick", *against, "--json", str(directory / "targets.json")])
        growth.main(["--quick", "--json", str(directory / "growth.json")])
        found |= {name: json.loads((directory / f"{name}.json").read_text()) for name in ("targets", "growth")}
    return {"command": "python -m benchmarks.performance --quick", **found}


@pytest.fixture
def report(measured: Report) -> Report:
    return copy.deepcopy(measured)


# --------------------------------------------------------------------------------------------------------- the page


def test_every_part_of_the_page_can_be_made(page: ModuleType, report: Report) -> None:
    source = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    asked = [line.partition("} ")[2] for line in source.splitlines() if line.startswith("```{performance}")]
    assert sorted(asked) == sorted([*page.TABLES, *page.TEXTS, *page.PLOTS])
    for make in page.TABLES.values():
        table = make(report)
        assert table.rows and all(len(row) == len(table.head) for row in table.rows)
    for make in page.TEXTS.values():
        assert make(report)


def test_what_was_not_measured_is_said_to_be_so(page: ModuleType, report: Report, tmp_path: Path) -> None:
    assert page.load(tmp_path) == {}
    for name, make in {**page.TABLES, **page.TEXTS}.items():
        if name != "failures":
            with pytest.raises(page.NotMeasuredError, match="Not measured yet"):
                make({})
    del report["growth"]
    assert page.targets_table(report).rows and page.machine(report)
    with pytest.raises(page.NotMeasuredError, match="growth layouts"):
        page.layouts_table(report)


def cell_of(report: Report, **wanted: Any) -> Report:
    return next(cell for cell in report["peers"]["cells"] if all(cell[key] == value for key, value in wanted.items()))


def test_figures_of_peers_are_those_of_the_file(page: ModuleType, report: Report) -> None:
    cell = cell_of(report, op="cross_entropy", grad=True, dtype="float32", shape="20x4")
    cell["limits"]["copyto"], cell["times"] = 2e-6, {"lossfast": 5e-6, "numpy": 3.1e-5}
    cell["ahead"], cell["failed"] = {"lossfast": 6.2}, {"sklearn": "ValueError: no"}
    (row,) = (
        row
        for row in page.peers_table(report, "float32").rows
        if row[0].text == "cross_entropy with gradient, in units of np.copyto" and row[1].text == page.spaced("20x4")
    )
    assert [entry.text for entry in row[2:]] == [page.duration(2e-6), "2.50", "15.5", "failed", "6.20"]
    assert not row[-1].beyond
    assert "sklearn failed at cross_entropy with gradient float32 20" in page.failures(report)
    cell["ahead"] = {"lossfast": 0.97}
    assert any(row[-1].beyond and row[-1].text == "0.97" for row in page.peers_table(report, "float32").rows)


def test_cells_that_are_not_ahead_are_counted_and_marked(page: ModuleType, report: Report) -> None:
    found = report["peers"]["summary"]["lossfast"]
    found["behind"], found["mean"], found["worst"]["ahead"] = 2, 7.54, 0.5
    assert "7.54 times as long" in page.summary(report) and "In 2 of them" in page.summary(report)
    (row,) = (row for row in page.summary_table(report).rows if "what one gets" in row[0].text)
    assert row[2].beyond and row[4].text == f"{found['cells'] - 2} of {found['cells']}"
    found["behind"], found["worst"]["ahead"] = 0, 1.5
    assert "slower in all of them, by 1.50 at the least" in page.summary(report)
    assert not page.summary_table(report).rows[0][2].beyond


def test_targets_that_fall_short_are_marked(page: ModuleType, report: Report) -> None:
    isa = report["targets"]["machine"]["lossfast instruction set"]
    first, second, *rest = report["targets"]["targets"]
    first |= {"measured": {isa: 3.0}, "bound": 2.0, "holds": {isa: False}, "at": {isa: "20000"}}
    second |= {"measured": {isa: 1.0}, "bound": 2.0, "holds": {isa: True}, "stretch": 1.5}
    report["targets"]["targets"] = [first, second]
    rows = page.targets_table(report).rows
    column = 2 + report["targets"]["isas"].index(isa)
    assert rows[0][column].beyond and rows[0][column].text == "3.00" and rows[0][-1].text == "20000"
    assert not rows[1][column].beyond and "(stretch 1.5)" in rows[1][1].text
    assert page.targets_summary(report) == "1 hold, 1 fall short (marked)."


def test_layouts_beyond_twice_are_marked(page: ModuleType, report: Report) -> None:
    report["growth"]["layouts"][0]["ratio"], report["growth"]["layouts"][1]["ratio"] = 2.5, 1.5
    rows = page.layouts_table(report).rows
    assert rows[0][1].beyond and not rows[1][1].beyond


def test_cliffs_and_missing_room_are_told(page: ModuleType, report: Report) -> None:
    points = report["growth"]["classes"][0]["points"] = [
        {"classes": c, "ns": ns, "floor": 1.0} for c, ns in ((2, 1.0), (3, 9.0), (4, 8.0))
    ]
    assert "is 9.00 times, from 2 to 3 (cross_entropy with gradient)" in page.cliffs(report)
    assert len(points) == 3
    assert page.in_place(report).startswith("There was room")
    report["growth"]["elements"][0]["points"][-1]["in place"] = True
    report["growth"]["elements"][1]["points"][-1] = {"elements": 10**9, "left out": "8.0 GB of inputs, 1.0 GB free"}
    assert "over the logits at 1,000,000" in page.in_place(report)
    assert "no room for 1,000,000,000 (8.0 GB of inputs, 1.0 GB free)" in page.in_place(report)


def test_what_threads_gain_and_lose_is_told(page: ModuleType, report: Report) -> None:
    for series in report["growth"]["threads"]:
        for point in series["points"]:
            point["seconds"] = {"1": 1.0, "2": 1.0}
    first, *_, last = report["growth"]["threads"][0]["points"]
    first["seconds"], last["seconds"] = {"1": 1.0, "2": 1.25}, {"1": 1.0, "2": 0.1}
    text = page.threads_summary(report)
    assert f"At best 10.0 times as fast (2 threads, {last['elements']:,} elements" in text
    assert f"at worst 0.80 times (2 threads, {first['elements']:,} elements" in text
    for series in report["growth"]["threads"]:
        for point in series["points"]:
            point["seconds"] = {"1": 1.0}
    assert page.threads_summary(report) == "There was one CPU only."


def test_the_machine_is_named_and_parts_of_other_days_are_told_apart(page: ModuleType, report: Report) -> None:
    text = page.machine(report)
    assert text.startswith("Measured on ") and common.cpu() in text and report["peers"]["commit"] in text
    assert "numpy" in text and "`python -m benchmarks.performance --quick`" in text
    report["growth"]["date"] = "1999-12-31"
    assert "Growth on 1999-12-31" in page.machine(report) and "Peers and targets on" in page.machine(report)


def test_who_took_more_threads_or_was_left_out_is_told(page: ModuleType, report: Report) -> None:
    report["peers"]["left out"] = []
    for cell in report["peers"]["cells"]:
        cell["busy"] = 1.0
    assert page.failures(report).startswith("Nothing was left out")
    report["peers"]["left out"], report["peers"]["cells"][0]["busy"] = ["jax (not installed)"], 1.7
    text = page.failures(report)
    assert "Left out: jax (not installed)." in text and "more than the one thread at cross_entropy with" in text


def test_plots(page: ModuleType, report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    texts = {}
    for name in page.PLOTS:
        for mode in ("light", "dark"):
            file = tmp_path / f"{name}-{mode}.svg"
            page.draw(name, report, mode, file)
            texts[name, mode] = file.read_text()
            assert page.COLOURS[mode]["ink"] in texts[name, mode]
    page.draw("memory", report, "dark", file)
    assert file.read_text() == texts["memory", "dark"], "a build that changes nothing changes no file"
    for name in ("elements", "classes", "threads", "call-costs", "memory", "roofline"):
        for mode, colours in page.LINES.items():
            assert all(colour in texts[name, mode] for colour in colours[:2])
    assert len(page.LINES["light"]) == len(page.LINES["dark"]) == len(page.MARKERS) == 1 + len(peers.PEERS)


def test_a_plot_without_figures_is_not_drawn(page: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in page.PLOTS:
        with pytest.raises(page.NotMeasuredError):
            page.draw(name, {}, "light", tmp_path / "plot.svg")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------- the README


def test_the_readme_says_what_the_file_says(page: ModuleType) -> None:
    report = page.load(ROOT / "docs")
    readme = performance.README.read_text(encoding="utf-8")
    assert performance.with_text(readme, "").count("\n") < readme.count("\n"), "it says nothing: make performance"
    assert performance.with_text(readme, performance.readme_text(report)) == readme, (
        "python -m benchmarks.performance --readme"
    )


def test_the_readme_s_table_and_sentence(report: Report) -> None:
    cell = cell_of(report, op="cross_entropy", grad=True, dtype="float32", shape="6x3")
    cell["limits"]["copyto"], cell["ahead"] = 1e-6, {"lossfast": 12.345}
    cell["times"] = {"lossfast": 2.5e-6, "numpy": 123.4e-6}
    found = report["peers"]["summary"]["lossfast"]
    found["cells"], found["mean"], found["worst"]["ahead"] = 99, 8.76, 1.03
    lines = performance.readme_text(report).splitlines()
    assert "| 6 × 3 | 2.50 | 123 | – | 12.35 |" in lines
    tail = " ".join(lines[-3:])
    assert "all 99 combinations" in tail and "8.8 times" in tail and "at worst 1.03 times" in tail
    assert max(len(line) for line in lines if not line.startswith("|")) <= 120
    assert common.cpu() in lines[0]


def test_only_what_is_between_the_markers_changes() -> None:
    readme = f"a\n{performance.BEGIN}\nold\n{performance.END}\nb\n"
    assert performance.with_text(readme, "new") == f"a\n{performance.BEGIN}\nnew\n{performance.END}\nb\n"
    for broken in ("a\nb\n", f"{performance.BEGIN}\n", f"{performance.END}\n{performance.BEGIN}\n"):
        with pytest.raises(SystemExit, match="lacks its markers"):
            performance.with_text(broken, "new")


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    file, readme = tmp_path / "performance.json", tmp_path / "README.md"
    readme.write_text(f"{performance.BEGIN}\n{performance.END}\n")
    monkeypatch.setattr(performance, "FILE", file)
    monkeypatch.setattr(performance, "README", readme)
    return file, readme


def test_the_command_keeps_what_it_has_when_a_program_fails(
    measured: Report, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, readme = places
    asked = []

    def run(part: str, quick: bool, report: Report) -> Report | None:
        asked.append((part, quick, set(report) & set(performance.PARTS)))
        return None if part == "targets" else measured[part]

    monkeypatch.setattr(performance, "run", run)
    assert performance.main([]) == 1
    assert asked == [("peers", False, set()), ("targets", False, {"peers"}), ("growth", False, {"peers"})]
    written = json.loads(file.read_text())
    assert set(written) == {"command", "peers", "growth"} and written["peers"] == measured["peers"]
    assert performance.readme_text(measured) in readme.read_text()
    monkeypatch.setattr(performance, "run", lambda part, quick, report: measured[part])
    assert performance.main(["--only", "targets"]) == 0
    assert json.loads(file.read_text())["targets"] == measured["targets"]
    assert list(json.loads(file.read_text())) == ["command", *performance.PARTS]


def test_trying_out_touches_nothing_of_the_documentation(
    measured: Report, places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, readme = places
    monkeypatch.setattr(performance, "run", lambda part, quick, report: measured[part])
    before = readme.read_text()
    assert performance.main(["--quick", "--output", str(tmp_path / "tried.json")]) == 0
    assert not file.exists() and readme.read_text() == before
    with pytest.raises(SystemExit):
        performance.main(["--quick"])
    with pytest.raises(SystemExit):
        performance.main(["--readme"])
    assert readme.read_text() == before


def test_a_program_that_writes_nothing_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)  # where there are no benchmarks
    assert performance.run("targets", True, {}) is None
