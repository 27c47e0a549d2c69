"""Builds the PTX of gpu/kernels and checks what assemblers make of it. `scripts/kernels.py` is the way in; docs/GPU.md says why."""
