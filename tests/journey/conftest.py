"""The journey tests run on every set of parts, but those that look into the directory of a server, or at the broker."""
import pytest

from support.parts import DISTRIBUTED, EVERY, on

EMBEDDED_ONLY = {"test_check.py", "test_client.py", "test_parked.py"}


def pytest_generate_tests(metafunc):
    own = metafunc.definition.path.name in EMBEDDED_ONLY or metafunc.definition.get_closest_marker("embedded")
    metafunc.parametrize("parts", EVERY[:1] if own else EVERY, indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def parts(request):
    with on(request.param, request) as chosen:
        yield chosen
