"""fuzz_test: fuzzes what a go_test has, for seconds."""

load("@bazel_skylib//rules:native_binary.bzl", "native_test")

def fuzz_test(name, test):
    """Fuzzes each Fuzz function of a test for a few seconds, from its seeds.

    Args:
      name: name of the target.
      test: the go_test. What it depends on is what decides whether it has to be fuzzed again.
    """
    native_test(
        name = name,
        size = "small",
        src = "//tools/fuzz",
        out = name,
        args = ["$(rootpath {})".format(test)],
        data = [test],
    )
