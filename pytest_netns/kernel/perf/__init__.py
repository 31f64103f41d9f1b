"""Perf events of the calling thread on kernel tracepoints (perf_event_open(2)). Root only."""
