"""The CPU engine: one contraction, C[r, c] = Σ_p A[r, p] · B[c, p], for all sums of the layer."""
