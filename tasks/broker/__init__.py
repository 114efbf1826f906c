"""The messages and the way to the broker, in any process that sends."""
