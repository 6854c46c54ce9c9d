"""Debian packages of our own programs."""

load("//rules/private/deb:deb.bzl", _deb = "deb")

deb = _deb
