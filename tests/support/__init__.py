"""What the tests share: the loops they run on, the checks round each test, peers and protocols."""
