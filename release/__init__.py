"""Makes what is published: wheels with OpenSSL and zlib inside, for four kinds of Linux.

scripts/wheels and scripts/release run it. It needs the dependency group `wheels` of pyproject.toml,
and is no part of what is installed.
"""
