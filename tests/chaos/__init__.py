"""What one machine does to a server: it is killed again and again, its disks fill, tasks turn on it.

`make chaos` runs these, each from a seed that its output names.
"""
