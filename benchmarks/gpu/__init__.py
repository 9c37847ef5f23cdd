"""What a GPU is asked: timings, checks, programs, and their records."""
