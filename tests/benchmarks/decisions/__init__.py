"""How much the policies lose, on recorded traces, beside the least that anyone could lose who knows the future."""
