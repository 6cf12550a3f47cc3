"""The fault tests of the messaging service that do not look into a server's directory run on PostgreSQL and Kafka, too."""
import pytest

from support.parts import EVERY, on

ON_EVERY = {"test_kill_cycles.py", "test_lost_answer.py", "test_same_id.py", "test_server_crash_points.py",
            "test_crash_points_at_once.py"}


def pytest_generate_tests(metafunc):
    every = metafunc.definition.path.name in ON_EVERY and not metafunc.definition.get_closest_marker("embedded")
    metafunc.parametrize("parts", EVERY if every else EVERY[:1], indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def parts(request):
    with on(request.param, request) as chosen:
        yield chosen
