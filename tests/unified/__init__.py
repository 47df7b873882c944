"""Tests on a kernel of their own, whose control groups are of version 2.

Debian's package user-mode-linux is a Linux kernel that runs as an ordinary program, needs neither rights nor /dev/kvm,
and takes this machine's root file system as its own. What is written there stays in its memory.
"""
