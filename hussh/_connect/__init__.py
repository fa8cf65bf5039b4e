"""Connecting: streams to a first hop, every hop after it, and how many logins at a time.

`_api` and `_multi` import these modules. They open streams and run the operations of `_protocol`;
they contain no protocol of their own.
"""
