"""What the tests share: nothing but settings."""

from __future__ import annotations

from hypothesis import settings

# Only the root conftest of a run may name plugins, so that of the plugin's own tests stands here.
pytest_plugins = ["pytester"]

# No database: an ordinary user may not write here, and a run must not depend on the one before. No deadlines: the
# machine may be busy.
settings.register_profile("netns", database=None, deadline=None)
settings.load_profile("netns")
