"""Parse and decide: proxies, keys, known hosts, algorithms.  Pure: no C, no waiting, no sockets."""
