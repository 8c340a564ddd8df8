"""The tests of quire-shortest run where it is installed: `test_third_party` starts them."""

collect_ignore = ["quire-shortest"]
