"""What operations return and errors carry: plain values. Nothing here imports another layer."""
