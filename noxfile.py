"""The tests on every Python and NumPy that is supported; lint and docs as the Makefile runs them.

``nox --list`` names the sessions; ``nox --session "tests-3.12"`` runs one.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


def install(session: nox.Session, *groups: str) -> None:
    """Install the project as it is, then the dependency groups (which name the project's own extras)."""
    session.install(".")
    for group in groups:
        session.install(*nox.project.dependency_groups(PYPROJECT, group))


def pytest(session: nox.Session, path: str = "tests") -> None:
    # The command, unlike `python -m pytest`, leaves the source tree off the path: what is tested is what a wheel holds.
    session.run("pytest", path, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The ordinary tests with the newest packages."""
    install(session, "test")
    pytest(session)


@nox.session(python="3.12")
@nox.parametrize("numpy", ["2.0", "2.1", "2.2", "2.3"])
def numpys(session: nox.Session, numpy: str) -> None:
    """The ordinary tests against one NumPy; the extension is always built against the newest."""
    install(session, "test")
    session.install(f"numpy=={numpy}.*")
    pytest(session)


@nox.session
def no_compiler(session: nox.Session) -> None:
    """Without a compiler and without any extra: the NumPy backend alone."""
    session.install(".", env={"CC": "/bin/false"})
    session.install("pytest", "pytest-timeout")
    pytest(session, "tests/test_cli.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff and mypy."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-b", "html", "--fail-on-warning", "--keep-going", "docs", "docs/_build/html")
