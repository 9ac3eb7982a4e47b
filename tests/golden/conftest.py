"""Options of the golden tests."""


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write the wanted files anew, delete those whose case is gone")
