"""What the tests share: nothing but settings."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from slowness import SLOWNESS

# Only the root conftest of a run may name plugins, so that of the plugin's own tests stands here.
pytest_plugins = ["pytester"]

# No database: an ordinary user may not write here, and a run must not depend on the one before. No deadlines: the
# machine may be busy.
settings.register_profile("netns", database=None, deadline=None)
# What is tested by its properties asks no kernel anything, so an emulated processor need not try as many examples.
settings.register_profile(
    "netns-slow", database=None, deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("netns" if SLOWNESS == 1 else "netns-slow")
