"""The CPU engine: one contraction C[r, c] = Σ_p A[r, p] · B[c, p] behind all three sums of the
layer."""
