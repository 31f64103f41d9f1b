"""Why a probe failed: it is sent again under observation, and its path is followed through the kernel's own tables."""
