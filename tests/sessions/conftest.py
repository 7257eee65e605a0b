from tests.support.stores import place, store  # noqa: F401 - fixtures
