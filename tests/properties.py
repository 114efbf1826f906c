"""What the property tests share: how they are run, without a clock, for the machine may be busy; and any JSON value."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tracking.values import MAX_INTEGER

UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])

# For properties of a real database: fewer examples, all of them on the database of the test. A counterexample is told
# as it was found: to make it smaller takes minutes of statements. Add Phase.shrink to look for its cause.
ON_ONE_DATABASE = settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# What comes back from jsonb as it went in. A float beyond ±2^53 is the same number, but comes back as an int.
NUMBERS = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(-MAX_INTEGER, MAX_INTEGER)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
