"""What the bench tells its handlers and its producer through the environment."""

WITNESS = "BENCH_CHAOS_WITNESS"  # the file in which bodies leave their lines
JOURNAL = "BENCH_CHAOS_JOURNAL"  # the file in which the producer notes what it asked for
CANARIES = "BENCH_CHAOS_CANARIES"  # JSON: each organization's own word
