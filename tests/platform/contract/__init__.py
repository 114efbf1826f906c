"""The five systems that this platform replaces: what their users rely on, against a live one."""
