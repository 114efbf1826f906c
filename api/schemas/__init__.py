"""The JSON contract: what requests may say, and what answers look like."""
