"""Everything that proves eventport right; `nox` without arguments runs what has to be green."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from pathlib import Path

import nox

from nox.command import CommandFailed


nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "lint",
    "typing",
    "docs",
    "tests",
    "conformance(backend='memory')",
    "conformance(backend='sqlite')",
    "conformance(backend='postgres')",
    "conformance(backend='mongodb[motor]')",
    "conformance(backend='eventstoredb[kurrentdb]')",
    "conformance(backend='eventstoredb[esdb]')",
    "esdbclient",
    "mutants",
    "build",
    "demo",
]

PROJECT = nox.project.load_toml("pyproject.toml")
BACKENDS = ("memory", "sqlite", "postgres", "mongodb[motor]", "eventstoredb[kurrentdb]")
# What conformance is run on: the harnesses of each backend, by what is installed for them. The two
# clients of EventStoreDB cannot be installed together: the older has sessions of its own.
HARNESSES = {
    "memory": "memory",
    "sqlite": "sqlite,sqlite-in-memory",
    "postgres": "postgres",
    "mongodb[motor]": "mongodb,mongodb-motor,mongodb-standalone",
    "eventstoredb[kurrentdb]": "eventstoredb-kurrentdb",
    "eventstoredb[esdb]": "eventstoredb-esdb",
}
# Most tests wait most of the time, so there are more workers than cores. Neighbours stay together,
# so that servers of a module are started once; a worker that is done takes over from others.
WORKERS = ("-n", "4", "--dist", "worksteal")
# The tests start hundreds of processes, which would compile all that they import each time: uv
# installs no byte code, and the environment may forbid to write any. It stays out of the sources.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parent / ".nox" / "bytecode")
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def is_installed(version: str) -> bool:
    """Tell whether a Python really runs: a shim of a version manager alone is none."""
    path = shutil.which(f"python{version}")
    if version == THIS_PYTHON or path is None:
        return path is not None
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() == version


SUPPORTED = nox.project.python_versions(PROJECT)
# In .github/workflows, each Python has a machine of its own.
ALONE = bool(os.environ.get("EVENTPORT_TEST_ONE_PYTHON"))
OTHER_PYTHONS = [v for v in SUPPORTED if v != THIS_PYTHON and not ALONE and is_installed(v)]


def install(session: nox.Session, *groups: str, backends: tuple[str, ...] = BACKENDS) -> None:
    """Install the workspace as it lies here, and groups of tools."""
    packages = [".[cli]", "conformance", *(f"./adapters/{name}" for name in backends)]
    editable = [argument for package in packages for argument in ("-e", package)]
    session.install(*editable, *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layout, and who imports whom."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # The contracts are read from the sources, which need not be installed for that.
    sources = [path.parent for path in Path().glob("**/src/eventport*/__init__.py")]
    packages = [str(path.parent) for path in sources if ".nox" not in path.parts]
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": ":".join(packages)})
    schemas = {
        "github-workflows": Path(".github/workflows").glob("*.yml"),
        "github-issue-forms": Path(".github/ISSUE_TEMPLATE").glob("[!c]*.yml"),
        "github-issue-config": [Path(".github/ISSUE_TEMPLATE/config.yml")],
        "dependabot": [Path(".github/dependabot.yml")],
    }
    for schema, files in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files))
    session.run("zizmor", "--offline", ".github")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types twice: what users run may be either checker."""
    install(session, "typing", "tests")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "-p", "pyright-strict.json")  # the product, under all rules


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into `site/`; a warning, a dead link or a missing reference is an error."""
    install(session, "docs")
    session.run("python", "website/build.py")


@nox.session
def look(session: nox.Session) -> None:
    """Look at the site in a browser that is installed: widths, search, dark mode, copying."""
    session.install(*nox.project.dependency_groups(PROJECT, "look"))
    session.run("python", "website/look.py")


@nox.session(python=[None, *OTHER_PYTHONS])  # type: ignore[list-item]  # None is this one
def tests(session: nox.Session) -> None:
    """Run the tests of the core and of the adapters, on each Python that is installed."""
    missing = [v for v in SUPPORTED if v not in (THIS_PYTHON, *OTHER_PYTHONS)]
    session.log(f"tested Pythons: {THIS_PYTHON} {' '.join(OTHER_PYTHONS)}")
    session.log(f"not installed here, so not tested: {' '.join(missing) or 'none'}")
    install(session, "tests")
    # Wheels, bridges, the suite and the conformance of the backends have sessions of their own.
    others = [
        "--ignore=tests/packaging",
        "--ignore=examples/bridges",
        "--ignore-glob=adapters/*/tests/test_conformance.py",
    ]
    everything = [*WORKERS, "tests", "adapters", "examples", *others]
    session.run("pytest", *(session.posargs or everything))


@nox.session
@nox.parametrize("backend", tuple(HARNESSES))
def conformance(session: nox.Session, backend: str) -> None:
    """Run the conformance suite on one backend, with one client."""
    install(session, "tests", backends=(backend,))
    # A run of all clauses must not be green by any other way than this; one of a part is partial.
    required = [] if session.posargs else [f"--conformance-require={HARNESSES[backend]}"]
    test = f"adapters/{backend.partition('[')[0]}/tests/test_conformance.py"
    session.run("pytest", *WORKERS, test, *required, *session.posargs)


@nox.session
def esdbclient(session: nox.Session) -> None:
    """Run the tests of EventStoreDB with its older client; `tests` has the newer one."""
    install(session, "tests", backends=("eventstoredb[esdb]",))
    others = "--ignore-glob=adapters/*/tests/test_conformance.py"
    session.run("pytest", *WORKERS, "adapters/eventstoredb", others, *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Prove the suite itself: each mutant fails its clauses, and the no-op store fails them all."""
    install(session, "tests")
    session.run("pytest", *WORKERS, "conformance", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Let the suite judge random mutants of the real code; takes as long as one lets it."""
    install(session, "tests")
    session.run("python", "-m", "conformance.mutation.run", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Put stores of other projects through the suite, in an environment of their own."""
    session.install(
        "-e", ".", "-e", "conformance", *nox.project.dependency_groups(PROJECT, "peers")
    )
    session.run("python", "-m", "benchmarks.peers.run", *session.posargs)


@nox.session
def bridges(session: nox.Session) -> None:
    """Run the bridges to other tools, tested by what the authors of those wrote."""
    install(session, "bridges", backends=("memory", "sqlite"))
    session.run("pytest", "examples/bridges", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build all distributions, check them, and use each from a clean environment."""
    session.install(*nox.project.dependency_groups(PROJECT, "build", "tests"))
    session.run("pytest", "--confcutdir=tests/packaging", "tests/packaging", *session.posargs)


@nox.session(venv_backend="none")
def version(session: nox.Session) -> None:
    """Set the version of all distributions, and of their requirements on each other."""
    if len(session.posargs) != 1:
        session.error("name the new version: nox -s version -- 0.2.0")
    old, new = PROJECT["project"]["version"], session.posargs[0]
    places = ("pyproject.toml", "conformance/pyproject.toml", "adapters/*/pyproject.toml")
    for path in (path for place in places for path in Path().glob(place)):
        text = path.read_text(encoding="utf-8")
        text = text.replace(f'\nversion = "{old}"\n', f'\nversion = "{new}"\n')
        path.write_text(text.replace(f'=={old}"', f'=={new}"'), encoding="utf-8")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the main job: an order-processing program, on SQLite."""
    install(session, backends=("sqlite",))
    session.chdir("examples/orders")
    session.run("python", "main.py")


# The servers that `real` runs on: the variable that names one, and the backend that it is for.
SERVERS = {
    "EVENTPORT_TEST_POSTGRES_URL": "postgres",
    "EVENTPORT_TEST_MONGODB_URL": "mongodb[motor]",
    "EVENTPORT_TEST_EVENTSTOREDB_URL": "eventstoredb[kurrentdb]",
}


@nox.session
def real(session: nox.Session) -> None:
    """Run the tests and the suite of each backend whose server the environment names."""
    given = [backend for variable, backend in SERVERS.items() if os.environ.get(variable)]
    if not given:
        session.error(f"name at least one server, by {', '.join(SERVERS)}; see CONTRIBUTING.md")
    install(session, "tests", backends=tuple(given))
    failed: list[str] = []
    for backend in given:
        folder = f"adapters/{backend.partition('[')[0]}/tests"
        required = [] if session.posargs else [f"--conformance-require={HARNESSES[backend]}"]
        try:
            session.run("pytest", *WORKERS, folder, *required, *session.posargs)
        except CommandFailed:
            failed.append(backend)  # the others run all the same
    if failed:
        session.error(f"failed on the server of {', '.join(failed)}")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against bare drivers, in the same run; takes some minutes."""
    install(session, "tests")  # for the servers that it measures on
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session
def contest(session: nox.Session) -> None:
    """Measure peers' stores and ours in turns, and write the page about it; needs node for one."""
    install(session, "tests", backends=("sqlite", "postgres"))
    session.run("python", "-m", "benchmarks.peers.speed.contest", *session.posargs)
    session.run("python", "benchmarks/peers/speed/page.py")


@nox.session
def growth(session: nox.Session) -> None:
    """Measure how cost grows with events, tasks and processes, and write the page about it."""
    install(session, "tests", backends=("sqlite", "postgres"))
    session.run("python", "-m", "benchmarks.growth", *session.posargs)
    session.run("python", "benchmarks/peers/speed/page.py")
