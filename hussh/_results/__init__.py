"""What operations return and errors carry: plain values.

`errors` and all layers import them. Nothing here imports another layer.
"""
