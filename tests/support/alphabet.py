"""The alphabet of the texts that property tests are given.

For tests that use hypothesis. Its own default, all characters that UTF-8 can encode, is the same
set, but every process computes that for two seconds.
"""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["ANY_CHARACTER"]

#: Every character but the surrogates.
ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
