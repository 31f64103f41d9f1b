"""Impairments: links with delay, loss, a rate and more, by the kernel's netem or by a relay of ours."""
