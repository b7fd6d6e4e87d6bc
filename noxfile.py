"""The versions that the package works with, and the full run of tests/robust.

    nox                      the whole suite on the oldest and newest versions, and without SciPy
    nox -s dask              tests/dask with the oldest and newest Dask
    nox -s full              everything of tests/robust, and the figures of docs/robustness.md

Arguments after `--` go to pytest.
"""

import nox

nox.options.sessions = ["oldest", "newest", "without_scipy"]

#: Packages that some tests use: a threading layer, pools of processes, `np.dot` in Numba.
MORE = ["tbb", "joblib", "scipy"]


@nox.session(python="3.11")
def oldest(session):
    """The oldest Python, and the oldest numba and numpy that pyproject.toml allows."""
    needs = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    session.install("-e", ".[test]", "joblib", *(need.replace(">=", "==") for need in needs))
    session.run("pytest", *session.posargs)


@nox.session(python="3.13")
def newest(session):
    """The newest versions that can be installed."""
    session.install("-e", ".[test]", *MORE)
    session.run("pytest", *session.posargs)


@nox.session(python="3.13")
def without_scipy(session):
    """The package as pip installs it, without SciPy, TBB or a peer."""
    session.install("-e", ".[test]")
    session.run("python", "-c", "import importlib.util as u; assert not u.find_spec('scipy')")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
def full(session):
    """This takes an hour or so, and 4 GiB of memory."""
    session.install("-e", ".[test]", *MORE)
    session.run("pytest", "tests/robust", *session.posargs, env={"ROBUST": "full"})
    session.run("python", "tests/robust/test_numerics.py", env={"PYTHONPATH": "tests"})


@nox.session(python="3.11")
@nox.parametrize("version", ["==2025.1.0", ""], ids=["oldest", "newest"])
def dask(session, version):
    """The calls on a cluster, with the oldest Dask that pyproject.toml allows and the newest."""
    session.install("-e", ".[dask,test]", f"dask[array]{version}", f"distributed{version}")
    session.run("pytest", "tests/dask", *session.posargs)
