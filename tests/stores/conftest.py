from tests.support.stores import place  # noqa: F401 - a fixture
