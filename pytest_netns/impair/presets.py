"""Presets: impairments of links as they are found, as values for ``link.impair(presets.LTE)``.

Delays are one way, half of the round trip that the source tells. They are orders of magnitude for tests, not models of
a provider; change what you like: ``link.impair(presets.LTE, loss="1%")``.

Where a technology is slower in one direction there are two values: the plain name is the way to the subscriber, and the
one with ``_UP`` the way from it::

    link.impair(presets.DSL, toward=home)
    link.impair(presets.DSL_UP, toward=provider)

``link.impair(presets.DSL)`` is the plain one both ways. Jitter never reorders here: each with jitter has a rate.

=================  ========  ========  ======  =========  ==========================================================
name               delay     jitter    loss    rate       source
=================  ========  ========  ======  =========  ==========================================================
LAN                100 us                                 a ping between two hosts on a gigabit switch takes some
                                                          0.2 ms (our figure); no rate, so that it costs no speed
WIFI               2 ms      1 ms              40 mbit    a channel that is shared with a few others (our figure)
WIFI_BAD           20 ms     15 ms     3 %     5 mbit     far from the access point or among many: retries of IEEE
                                                          802.11 show as jitter, and some frames are lost in spite
                                                          of them (our figure)
DSL, DSL_UP        25 ms               0.1 %   1.5 mbit,  WebPageTest, connectivity.ini, "DSL": 1.5 Mbit/s, 384
                                               384 kbit   kbit/s, 50 ms round trip; loss: our figure
LTE, LTE_UP        35 ms     5 ms      0.1 %   12 mbit    WebPageTest, connectivity.ini, "LTE": 12 Mbit/s, 70 ms
                                                          round trip; jitter and loss: our figure
THREE_G,           75 ms     10 ms     0.5 %   1.6 mbit,  WebPageTest, connectivity.ini, "3G Fast": 1.6 Mbit/s, 768
THREE_G_UP                                     768 kbit   kbit/s, 150 ms round trip; jitter and loss: our figure
SATELLITE_LEO,     25 ms     5 ms      0.5 %   150 mbit,  F. Michel et al., "A First Look at Starlink Performance",
SATELLITE_LEO_UP                               15 mbit    IMC 2022: round trip 50 ms (quartiles 40 and 60), rates
                                                          and losses of that order
SATELLITE_GEO,     300 ms    5 ms      0.1 %   100 mbit,  as before: geostationary access, from 600 ms round trip, a
SATELLITE_GEO_UP                               10 mbit    contract of 100/10 Mbit/s; RFC 2488 section 2: propagation
                                                          alone is 240 to 280 ms one way; jitter and loss: our figure
=================  ========  ========  ======  =========  ==========================================================
"""

from __future__ import annotations

from pytest_netns.impair.impairment import Impairment

LAN = Impairment(delay="100us")
WIFI = Impairment(delay="2ms", jitter="1ms", rate="40mbit")
WIFI_BAD = Impairment(delay="20ms", jitter="15ms", loss="3%", rate="5mbit")
DSL = Impairment(delay="25ms", loss="0.1%", rate="1.5mbit")
DSL_UP = DSL.but(rate="384kbit")
LTE = Impairment(delay="35ms", jitter="5ms", loss="0.1%", rate="12mbit")
LTE_UP = LTE
THREE_G = Impairment(delay="75ms", jitter="10ms", loss="0.5%", rate="1.6mbit")
THREE_G_UP = THREE_G.but(rate="768kbit")
SATELLITE_LEO = Impairment(delay="25ms", jitter="5ms", loss="0.5%", rate="150mbit")
SATELLITE_LEO_UP = SATELLITE_LEO.but(rate="15mbit")
SATELLITE_GEO = Impairment(delay="300ms", jitter="5ms", loss="0.1%", rate="100mbit")
SATELLITE_GEO_UP = SATELLITE_GEO.but(rate="10mbit")

__all__ = [
    "DSL",
    "DSL_UP",
    "LAN",
    "LTE",
    "LTE_UP",
    "SATELLITE_GEO",
    "SATELLITE_GEO_UP",
    "SATELLITE_LEO",
    "SATELLITE_LEO_UP",
    "THREE_G",
    "THREE_G_UP",
    "WIFI",
    "WIFI_BAD",
]
