"""The environment variables by which a run tells its processes what to do."""

BROKER = "BENCH_BROKER_URL"  # of the plain Celery app
RESULTS = "BENCH_RESULT_BACKEND"  # of the plain Celery app; empty for none
WITNESS = "BENCH_WITNESS"  # the file in which bodies leave their time
QUEUE = "BENCH_QUEUE"  # where jobs go that are created by POST
