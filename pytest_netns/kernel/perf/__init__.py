"""Perf events of this thread on the kernel's tracepoints: see perf_event_open(2). Root only."""
