"""Why a probe failed: it is sent again under observation, and its way is walked by the kernels' own tables."""
