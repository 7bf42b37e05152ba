"""Many runs side by side, from their folders alone and without torch: what `compare` does."""
