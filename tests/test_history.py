"""The recorded history: what asv and git recorded becomes series, moves are found, and the page needs no network."""

from __future__ import annotations

import html.parser
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "history.html").is_file():
    pytest.skip("the benchmarks are not part of an installation", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import history  # noqa: E402

Commit = history.Commit
COMMITS = [Commit(86_400 * day, day, 12 * str(day), f"change <{day}>") for day in range(1, 5)]


def benchmark(*values: float, kind: str = "bytes", unit: str = "bytes") -> history.Benchmark:
    made = history.Benchmark("memory.Extra.track_bytes", unit, kind, "a machine", ("loss", "variant"))
    for commit, value in zip(COMMITS, values, strict=False):
        made.values[commit] = {("mse_loss", "numpy"): value}
    return made


def record(directory: Path, commits: list[Commit], values: dict[str, list[list[float | None]]]) -> None:
    """An asv folder as asv writes it, with its own classes: a benchmark of errors, one of times."""
    results = pytest.importorskip("asv.results")
    about: dict[str, Any] = {"version": 2}
    for name, unit in (("accuracy.Rows.track_ulp", "ULP"), ("throughput.Rows.track_ns", "ns/element")):
        about[name] = {
            "name": name,
            "unit": unit,
            "type": "track",
            "version": "1",
            "param_names": ["loss", "variant"],
            "params": [["'softmax'", "'nll_loss'"], ["'numpy'"]],
        }
    machine = directory / "box"
    machine.mkdir(parents=True)
    (directory / "benchmarks.json").write_text(json.dumps(about))
    (machine / "machine.json").write_text(json.dumps({"machine": "box", "cpu": "Some CPU", "version": 1}))
    for number, commit in enumerate(commits):
        made = results.Results(
            {"machine": "box"}, {}, commit.name.ljust(40, "0"), 1000 * commit.date, "3.12", "existing", {}
        )
        for name, series in values.items():
            made._results[name] = series[number]
            made._benchmark_params[name] = about[name]["params"]
            made._benchmark_version[name] = "1"
            for empty in (made._stats, made._samples, made._started_at, made._duration):
                empty[name] = None
        made.save(str(directory))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    errors = [[1.0, 2.0], [1.0, 1.5], [math.inf, 1.5]]
    times = [[10.0, math.nan], [11.0, math.nan], [20.0, math.nan]]
    record(tmp_path / "results", COMMITS[:3], {"accuracy.Rows.track_ulp": errors, "throughput.Rows.track_ns": times})
    return tmp_path / "results"


def test_what_asv_recorded_becomes_series(recorded: Path) -> None:
    accuracy, throughput = history.of_asv(recorded)
    assert (accuracy.name, accuracy.kind, accuracy.unit) == ("accuracy.Rows.track_ulp", "accuracy", "ULP")
    assert (throughput.kind, throughput.machine, throughput.parameters) == (
        "time",
        "box (Some CPU)",
        ("loss", "variant"),
    )
    assert [commit.name for commit in accuracy.commits()] == [commit.name for commit in COMMITS[:3]]
    assert [accuracy.values[commit]["nll_loss", "numpy"] for commit in accuracy.commits()] == [2.0, 1.5, 1.5]
    assert throughput.keys() == [("softmax", "numpy")], "what is not a number was not measured"
    moves = [(commit.name, key[0], verdict) for commit, key, *_, verdict in accuracy.moves()]
    assert moves == [(COMMITS[1].name, "nll_loss", "better"), (COMMITS[2].name, "softmax", "worse")]
    assert [verdict for *_, verdict in throughput.moves()] == ["worse"], "a tenth is within the band of times"


def test_results_of_another_version_of_a_benchmark_are_left_out(recorded: Path) -> None:
    file = recorded / "benchmarks.json"
    about = json.loads(file.read_text())
    about["accuracy.Rows.track_ulp"]["version"] = "2"
    file.write_text(json.dumps(about))
    assert [made.name for made in history.of_asv(recorded)] == ["throughput.Rows.track_ns"]


def test_nothing_recorded_is_no_error(tmp_path: Path) -> None:
    assert history.of_asv(tmp_path) == []
    page = history.page([])
    assert "Nothing has been recorded yet" in page and '"benchmarks":[]' in page


@pytest.mark.parametrize(
    ("kind", "values", "verdicts"),
    [
        ("bytes", (100, 101, 101, 90), ["worse", "better"]),
        ("time", (1.0, 1.2, 1.3, 1.0), ["worse", "better"]),  # small steps add up
        ("time", (1.0, 1.2, 1.0, 0.9), []),
        ("accuracy", (1.0, math.inf, 1.0, 1.0), ["worse", "better"]),
        ("bytes", (math.nan, 5.0, 5.0, 6.0), ["worse"]),
    ],
)
def test_moves(kind: str, values: tuple[float, ...], verdicts: list[str]) -> None:
    assert [move[4] for move in benchmark(*values, kind=kind).moves()] == verdicts


def test_the_trend_is_of_what_both_commits_have() -> None:
    made = benchmark(2.0, 4.0, 4.0)
    made.values[COMMITS[2]][("new", "numpy")] = 1000.0
    assert made.trend() == pytest.approx([1.0, 2.0, 2.0])
    made.values[COMMITS[3]] = {("mse_loss", "numpy"): 4.0, ("new", "numpy"): 250.0}
    assert made.trend()[-1] == pytest.approx(1.0)


def test_what_moved_is_told_newest_first_and_worst_first() -> None:
    one, other = benchmark(10, 20, 10), benchmark(10, 50, 50)
    found = [(number, commit.place, verdict) for number, commit, *_, verdict in history.moved([one, other])]
    assert found == [(0, 3, "better"), (1, 2, "worse"), (0, 2, "worse")]


def test_every_clone_has_a_history() -> None:
    names = {made.name for made in history.collect(ROOT / "nowhere")}
    assert {"gate: worst error", "gate: bytes beyond the buffers", "performance: time of a call"} <= names


def test_versions_come_from_git_oldest_first_and_the_file_as_it_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    monkeypatch.setattr(history.common, "ROOT", tmp_path)
    history._git.cache_clear()
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for number in range(3):
        (tmp_path / "figures.json").write_text(f"[{number}]")
        subprocess.run(["git", "add", "figures.json"], cwd=tmp_path, check=True)
        if number < 2:
            subprocess.run(["git", *who, "commit", "-qm", f"number {number}"], cwd=tmp_path, check=True)
    try:
        found = list(history.versions("figures.json"))
    finally:
        history._git.cache_clear()
    assert [value for _, value in found] == [[0], [1], [2]]
    assert [commit.subject for commit, _ in found] == ["number 0", "number 1", ""]
    assert found[-1][0].name == "uncommitted" and sorted(c for c, _ in found) == [c for c, _ in found]


def test_a_name_of_the_baseline_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not consist of function, output, dtype, instruction set"):
        history.of_baseline([(COMMITS[0], {"accuracy": {"": {"softmax value": 1.0}}})])


class Tags(html.parser.HTMLParser):
    """What a page loads, what it links to, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.loads += [value for name in ("src", "srcset") if (value := given.get(name))]
        self.loads += [str(given.get("href"))] if tag == "link" else []
        self.links += [str(given["href"])] if tag == "a" and "href" in given else []
        self.ids |= {str(given["id"])} if "id" in given else set()
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_loads_nothing_and_says_what_moved(recorded: Path) -> None:
    benchmarks = [*history.of_asv(recorded), benchmark(10, 20, 30)]
    page = history.page(benchmarks, "../history.html")
    tags = Tags()
    tags.feed(page)
    assert tags.loads == [] and tags.open == []
    assert not re.search(r"@import|url\(|fetch\(|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "../history.html" in tags.links
    assert all(link[1:] in tags.ids for link in tags.links if link.startswith("#"))
    assert page.count("▲") >= 3 and "<svg" in page and "change &lt;2&gt;" in page
    embedded = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [made["name"] for made in embedded["benchmarks"]] == [made.name for made in benchmarks]
    errors = embedded["benchmarks"][0]
    assert errors["series"][0] == [[0, 0], [1.0, 1.0, history.INFINITE]] and errors["moves"][-1][2] == 1


def test_text_cannot_leave_its_place() -> None:
    evil = history.Benchmark("</script><b>", "ns", "time", "<i>", ("p",))
    evil.values[Commit(1, 1, "</script>", "<b>")] = {("</script>",): 1.0}
    page = history.page([evil])
    assert page.count("</script>") == 2, "the page's own"
    visible = page.partition('<script type="application/json"')[0]
    assert not re.search("<b>|<i>", visible) and "&lt;i&gt;" in visible


def test_command(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site" / "benchmarks" / "index.html"
    assert history.main(["--results", str(recorded), "--output", str(file)]) == 0
    assert "accuracy.Rows.track_ulp" in file.read_text(encoding="utf-8")
    assert "benchmarks at" in capsys.readouterr().out and "documentation</a>" not in file.read_text(encoding="utf-8")
    (tmp_path / "site" / "history.html").touch()
    history.write(file, recorded)
    assert 'href="../history.html">documentation</a>' in file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_script_draws(recorded: Path, tmp_path: Path) -> None:
    """In a browser, if there is one: the first benchmark is drawn, with a mark where it became worse."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    file = tmp_path / "index.html"
    history.write(file, recorded)
    found = json.loads(file.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0])
    number = next(i for i, made in enumerate(found["benchmarks"]) if made["name"] == "accuracy.Rows.track_ulp")
    done = subprocess.run(
        [
            browser,
            *"--headless --no-sandbox --virtual-time-budget=2000 --dump-dom".split(),
            f"{file.as_uri()}#b{number}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    chart = done.stdout.partition('<svg id="chart"')[2].partition("</svg>")[0]
    assert chart.count("<circle") >= 3 and 'class="line"' in chart
    assert "accuracy.Rows.track_ulp (ULP)" in done.stdout and 'fill="var(--worse)"' in chart
