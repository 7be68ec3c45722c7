"""Each module names the suite under test TESTED; it runs once, on stored records."""

import pytest

from suites import recorded


@pytest.fixture(scope="module")
def blocks(request: pytest.FixtureRequest):
    """The results of the module's suite TESTED, honest and mutated, on stored records."""
    return recorded.blocks_of(request.module.TESTED)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, blocks):
    """Their tallies."""
    return recorded.tallies(request.module.TESTED, blocks)


@pytest.fixture(params=[(number, theta) for theta in (0, 1) for number in (3, 20)], ids=lambda p: f"{p[0]}-{p[1]}")
def seen(request: pytest.FixtureRequest, blocks):
    """One lane of every block at one theta."""
    return [recorded.seen(block, request.module.TESTED, *request.param) for block in blocks]
