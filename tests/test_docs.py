"""The documentation: its examples run, and its reference leaves nothing out.

The pages are read as text, so that this needs no Sphinx; the slow tests build them with it.
"""

from __future__ import annotations

import doctest
import html
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import lossfast as lf
from lossfast import _loss

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"generated", "_build"} & set(page.parts))
README = ROOT / "README.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside the tests")


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """The line, language and text of every code block."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\S*).*\n((?s:.*?))^```$", text, re.MULTILINE)
    return [(text.count("\n", 0, block.start()) + 1, block[1], block[2]) for block in found]


def run_command(text: str, where: str) -> None:
    """Run what follows ``$`` and compare what it prints with what follows that."""
    command, _, expected = text.removeprefix("$ ").partition("\n")
    name, *arguments = shlex.split(command)
    assert name == "lossfast", f"{where}: only the command lossfast is run"
    done = subprocess.run([sys.executable, "-m", name, *arguments], capture_output=True, text=True)
    example = doctest.Example(command, expected)
    checker = doctest.OutputChecker()
    assert checker.check_output(expected, done.stdout, FLAGS), (
        f"{where}: {checker.output_difference(example, done.stdout, FLAGS)}{done.stderr}"
    )


def missing(page: Path) -> list[str]:
    """Of the modules that a page says its examples require, those that are not there."""
    required = re.match(r"^% requires: (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in (required[1].split() if required else []) if not found(name)]


def found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_code_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing(page):
        pytest.skip(f"not installed: {', '.join(missing(page))}")
    assert not re.search(r"^ +```", page.read_text(encoding="utf-8"), re.MULTILINE), "an indented block is not found"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for line, language, text in blocks(page):
        where = f"{page.name}:{line}"
        if language == "python":
            test = doctest.DocTestParser().get_doctest(text, names, where, str(page), line)
            assert test.examples, f"{where}: a block of Python must be a doctest"
            runner.run(test, out=failures.append, clear_globs=False)
            names = test.globs
        elif language == "console":
            run_command(text, where)
        elif language == "sh":
            targets = re.findall(r"^make (\S+)", text, re.MULTILINE)
            assert len(targets) == len(text.splitlines()), f"{where}: what is not run may only be a target of make"
            for target in targets:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{where}: {target}"
        elif language != "cython":  # which test_capi.py builds and calls
            assert language == "text" or language.startswith("{"), f"{where}: {language!r} is neither run nor told why"
    assert not failures, "\n".join(failures)


def test_blocks_are_found() -> None:
    languages = [language for page in PAGES for _, language, _ in blocks(page)]
    assert languages.count("python") >= 20 and {"console", "sh", "cython"} <= set(languages)


@pytest.mark.parametrize("required", ("numpy lossfast.nothing", "lossfast.nothing.at_all"))
def test_pages_that_need_what_is_not_there_are_left_out(required: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"% requires: {required}\n\n# Title\n")
    assert missing(page) == [required.split()[-1]]
    page.write_text("# Title\n\n% requires: lossfast.nothing\n")
    assert missing(page) == [], "only the first line says so"


# ------------------------------------------------------------------------------------------------------ reference


@pytest.fixture
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lossfast_reference", DOCS / "_ext" / "lossfast_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def throwaway(monkeypatch: pytest.MonkeyPatch) -> str:
    """A loss that somebody has just added."""
    monkeypatch.setattr(_loss, "REGISTRY", dict(_loss.REGISTRY))

    @_loss.pointwise_loss(parameters={"width": _loss.Parameter(1.0, "> 0")}, ulp=3)
    def throwaway_loss(x, t, q, width):
        """A loss that is thrown away.

        Parameters
        ----------
        width : float, default 1.0
            Its width.

        Raises
        ------
        ValueError
            If width is not above 0.
        """
        return x, x, x

    return "throwaway_loss"


def test_index_lists_the_registry(reference: ModuleType, throwaway: str) -> None:
    listed = re.findall(r":doc:`(\w+)`", reference.index())
    assert sorted(listed) == list(lf.losses()) and throwaway in listed
    assert all(reference.summary(lf.get_loss(name)) in reference.index() for name in listed)


def test_every_loss_has_a_known_group() -> None:
    assert {lf.get_loss(name).group for name in lf.losses()} <= set(_loss.GROUPS)


def test_missing_names_are_found(reference: ModuleType, throwaway: str) -> None:
    entries = {f"lossfast.{name}": None for name in lf.__all__}
    assert reference.missing(entries) == [throwaway]
    entries[f"lossfast.{throwaway}"] = None
    assert reference.missing(entries) == []
    del entries["lossfast.losses"], entries["lossfast.softmax"]
    assert reference.missing(entries) == ["losses", "softmax"]


def test_names_of_the_package_count(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lf, "__all__", [*lf.__all__, "forgotten"])
    named = [f"lossfast.{name}" for name in lf.__all__ if name != "forgotten"]
    assert reference.missing(named) == ["forgotten"]


def test_missing_names_stop_the_build(reference: ModuleType) -> None:
    errors = pytest.importorskip("sphinx.errors", reason="the documentation's packages are not installed")
    documented = {f"lossfast.{name}": None for name in reference.public_names()}
    env = SimpleNamespace(domains={"py": SimpleNamespace(objects=documented)})
    reference.check_names(None, env)
    del documented["lossfast.huber_loss"]
    with pytest.raises(errors.ExtensionError, match="huber_loss"):
        reference.check_names(None, env)


def test_command_page_has_every_command_and_option(reference: ModuleType) -> None:
    page = reference.command_page()
    assert re.findall(r"^## lossfast (\w+)$", page, re.MULTILINE) == ["eval", "ls", "info", "check", "demo"]
    parameters = {
        name
        for loss in map(lf.get_loss, lf.losses())
        if loss.kind in ("pointwise", "rowwise")
        for name in loss.parameters
    }
    for name in (*parameters, "reduction", "pos_weight", "out", "fail_above", "output_dir"):
        assert f"```{{option}} --{name.replace('_', '-')}" in page


@pytest.mark.parametrize("name", lf.losses())
def test_page_of_a_loss(reference: ModuleType, name: str) -> None:
    pytest.importorskip("numpydoc", reason="the documentation's packages are not installed")
    loss = lf.get_loss(name)
    page = reference.page(loss)
    assert f".. py:function:: {name}(" in page and f"**{loss.ulp} ULP**" in page
    for method in reference.methods(loss):
        assert f":py:meth:`{method}(" in page
    for parameter, rule in loss.parameters.items():
        assert f"``{parameter}``" in page and rule.domain in page
    for option in loss.__signature__.parameters:
        assert f"**{option}**" in page, f"{option} is not described"
    assert page.count(".svg") == 2


def test_plot(reference: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for mode in reference.STYLES:
        file = tmp_path / f"{mode}.svg"
        reference.draw(lf.huber_loss, mode, file)
        text = file.read_text()
        assert all(colour in text for colour in reference.STYLES[mode]["curves"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_build(tmp_path: Path) -> None:
    """The whole site builds without a warning and loads nothing from elsewhere; a forgotten name stops it."""
    pytest.importorskip("sphinx", reason="the documentation's packages are not installed")
    build = "from sphinx.cmd.build import main\nsys.exit(main(sys.argv[1:]))\n"
    forget = "lossfast.__all__.append('forgotten')\n"
    options = ["-q", "-W", "--keep-going", "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")]
    for code, status in ((build, 0), (forget + build, 2)):
        command = [sys.executable, "-c", "import sys, lossfast\n" + code, *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == status, done.stderr
        assert ("forgotten" in done.stderr) == (status != 0)
    files = (file.resolve() for file in (tmp_path / "html").rglob("*.html") if "_static" not in file.parts)
    pages = {file: file.read_text(encoding="utf-8") for file in files}
    assert len(pages) > len(lf.losses())
    loads = re.compile(
        r"""<(?:script|img)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*stylesheet[^>]*href="(?:https?:)?//"""
    )
    for page, text in pages.items():
        assert not loads.search(text), f"{page} loads something from the network"
        for link in re.findall(r'\bhref="([^"]+)"', text):
            if re.match(r"\w+:|//", link) or link == "#":
                continue
            path, _, anchor = html.unescape(link).partition("#")
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            assert target.exists(), f"{page} links to {link}"
            assert not anchor or target not in pages or f'id="{anchor}"' in pages[target], f"{page} links to {link}"
