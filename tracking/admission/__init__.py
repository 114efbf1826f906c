"""What may be sent now: the rule, the line, and what holds a job back."""
