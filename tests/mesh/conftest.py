"""Fixtures and the report of the mesh's scenarios. `tools/demo --check` runs these same tests with --lines: a line for each, then the figures."""
import signal
import tempfile
import time

import pytest
import util
from lab import Lab
from mesh import Mesh

signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended cleans up as after Ctrl-C


class Figures:
    """What was measured on the way; printed at the end."""

    def __init__(self):
        self.rows = []

    def add(self, what, value):
        self.rows.append((what, value))


FIGURES = Figures()


@pytest.fixture(scope="session")
def figures():
    return FIGURES


@pytest.fixture
def folder():
    """Short, because Unix sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="flm-", dir="/tmp") as path:
        yield path
        reports = util.sanitizer_reports(path)
        assert not reports, reports[0]


class Shared:
    """One mesh for many tests; a test that fails leaves it to nobody."""

    def __init__(self, make):
        self.mesh, self.make, self.broken = None, make, False

    def get(self):
        assert not self.broken, "it did not start for an earlier test"
        self.broken = True
        self.mesh = self.mesh or self.make().start()
        self.broken = False
        return self.mesh

    def drop(self, check=False):
        mesh, self.mesh = self.mesh, None
        if mesh:
            mesh.end(check)


@pytest.fixture(scope="session")
def shared_mesh():
    shared = Shared(Mesh)
    yield shared
    shared.drop(check=True)


@pytest.fixture
def mesh(shared_mesh, request):
    """Bookinfo, up and as it is in samples/bookinfo, whatever the test before did."""
    try:
        found = shared_mesh.get()
        found.reset()
    except Exception as problem:
        if shared_mesh.mesh:
            problem.add_note(shared_mesh.mesh.logs())
        shared_mesh.drop()
        raise
    request.node.mesh = found
    yield found
    if getattr(request.node, "failed", False):
        shared_mesh.drop()


@pytest.fixture(scope="session")
def shared_lab():
    shared = Shared(Lab)
    yield shared
    shared.drop(check=True)


@pytest.fixture
def lab(shared_lab, request):
    """The lab, with the configuration of the module's tests in force. A test that fails leaves its configuration to nobody."""
    found = shared_lab.get()
    found.use(request.module, request.session.items)
    request.node.mesh = found
    yield found
    if getattr(request.node, "failed", False):
        found.module = None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True
        if getattr(item, "mesh", None):
            report.sections.append(("logs of the mesh", item.mesh.logs()))


def pytest_addoption(parser):
    parser.addoption("--lines", action="store_true", help="one line for each scenario, as tools/demo --check prints")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "scenario(number): a scenario of the mesh that tools/demo --check runs")
    config.addinivalue_line("markers", "rules(text...): configuration of the lab that the test needs")
    if config.getoption("--lines"):
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Lines(config), "lines")


def pytest_collection_modifyitems(items):
    """In the order of the scenarios' numbers; what is none comes last."""
    def number(item):
        mark = item.get_closest_marker("scenario")
        return mark.args[0] if mark else 99
    items.sort(key=number)


class Lines:
    """The report of --lines."""

    def __init__(self, config):
        self.config, self.failed, self.started = config, [], time.monotonic()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report)
        if report.when == "call" or report.failed:
            words = report.nodeid.split("::")[-1].replace("test_", "", 1).replace("_", " ")
            print(f"{'ok  ' if report.passed else 'FAIL'} {words} ({report.duration:.1f} s)", flush=True)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        for report in self.failed:
            print(f"\n---- {report.nodeid}\n{report.longrepr}", flush=True)
            for title, text in report.sections:
                print(f"---- {title}\n{text}", flush=True)
        if FIGURES.rows:
            print("\nmeasured:")
        for what, value in FIGURES.rows:
            print(f"  {what:44} {value}")
        print(f"\n{'all scenarios hold' if not self.failed else f'{len(self.failed)} failed'}, {time.monotonic() - self.started:.0f} s", flush=True)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    for what, value in FIGURES.rows:
        terminalreporter.write_line(f"measured: {what:44} {value}")
