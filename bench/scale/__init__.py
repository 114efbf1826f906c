"""What grows with data and tenants: reads, one tenant beside another, the leader's duties, room and removal."""
