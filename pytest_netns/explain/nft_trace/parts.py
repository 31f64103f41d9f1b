"""Numbers of the kernel's trace messages (``linux/netfilter/nf_tables.h``, ``linux/netfilter.h``)."""

from __future__ import annotations

# enum nft_trace_attributes
TRACE_TABLE, TRACE_CHAIN, TRACE_HANDLE, TRACE_TYPE, TRACE_VERDICT, TRACE_ID = 1, 2, 3, 4, 5, 6
TRACE_NETWORK_HEADER, TRACE_TRANSPORT_HEADER, TRACE_POLICY = 8, 9, 16
# enum nft_trace_types
TYPE_POLICY, TYPE_RULE = 1, 3
# what a rule decides
NF_DROP, NF_ACCEPT, NF_STOLEN, NF_QUEUE, CONTINUE = 0, 1, 2, 3, -1
