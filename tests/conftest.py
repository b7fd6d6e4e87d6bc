"""Settings that are needed before the package is imported."""

import os
import pathlib
import signal

# A shell's background jobs ignore Ctrl-C, and so would the tests' processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

cores = os.cpu_count() or 1
# More threads than most test shapes have tiles, even if the machine has fewer cores.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(4, cores)))
# OpenMP's waiting threads spin. If other programs run too, the tests take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import pytest
from hypothesis import HealthCheck, settings

# As many as there are cores, but for the tests that set another number.
numba.set_num_threads(cores)

settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", parent=settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

#: The marker `quick`: equations, plan, small layers, and the bits in one world.
QUICK = {
    "cpu/test_plan.py",
    "cpu/test_threads_worth.py",
    "test_bits.py",
    "test_equations.py",
    "test_small.py",
    "test_stretch.py",
    "test_tree_sum.py",
}

#: The marker `once`: pages, benchmarks, commands, what is read from the machine, decisions, parts
#: of the engine by themselves and the table of tunables. They hold for the package whatever
#: compiles it. Some slow tests of the cache, of flags, of Numba's own pipeline and of what is
#: compiled on demand have the marker, too.
ONCE = {
    "cpu/test_caches.py",
    "cpu/test_gemv.py",
    "cpu/test_memory.py",
    "cpu/test_pack.py",
    "cpu/test_plan.py",
    "cpu/test_threads_worth.py",
    "cpu/test_tunables.py",
    "docs",
    "robust/test_fuzz.py",
    "robust/test_sizes.py",
    "robust/test_systems.py",
    "test_alarm.py",
    "test_benchmarks.py",
    "test_commands.py",
    "test_dashboard.py",
    "test_equations.py",
    "test_stretch.py",
    "test_tree_sum.py",
}


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        path = item.path.relative_to(here)
        if path.as_posix() in QUICK:
            item.add_marker(pytest.mark.quick)
        if path.as_posix() in ONCE or path.parts[0] in ONCE:
            item.add_marker(pytest.mark.once)
