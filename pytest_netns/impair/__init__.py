"""Impairments: links with delay, loss, a rate and more, by the kernel's netem or tbf, or by a relay of ours."""
