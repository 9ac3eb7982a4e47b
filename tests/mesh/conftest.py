"""Fixtures and the report of the mesh's scenarios. `tools/demo --check` runs these same tests with --lines: a line for each, then the figures."""
import time

import pytest


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


def pytest_addoption(parser):
    parser.addoption("--lines", action="store_true", help="one line for each scenario, as tools/demo --check prints")


def pytest_configure(config):
    config.addinivalue_line("markers", "scenario(number): a scenario of the mesh that tools/demo --check runs")
    if config.getoption("--lines"):
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Lines(config), "lines")


class Lines:
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

    def pytest_sessionfinish(self):
        for report in self.failed:
            print(f"\n---- {report.nodeid}\n{report.longrepr}", flush=True)
        if FIGURES.rows:
            print("\nmeasured:")
        for what, value in FIGURES.rows:
            print(f"  {what:44} {value}")
        print(f"\n{'all scenarios hold' if not self.failed else f'{len(self.failed)} failed'}, {time.monotonic() - self.started:.0f} s", flush=True)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    for what, value in FIGURES.rows:
        terminalreporter.write_line(f"measured: {what:44} {value}")
