"""Upstream's programs as we ship them: `go_program` links one with its module list inside."""

load("//rules/private/program:go_program.bzl", _go_program = "go_program")

go_program = _go_program
