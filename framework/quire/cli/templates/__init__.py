"""What `quire new-plugin` writes: for each kind a module and its tests, small but real, under the names
`NewPlugin` and `new_plugin`, which the command replaces. They are checked and run like the rest of quire.
"""
