"""fuzz_test: fuzzes what a go_test has, for seconds."""

load("@bazel_skylib//rules:native_binary.bzl", "native_test")

def fuzz_test(name, test):
    """Fuzzes each Fuzz function of a test for a few seconds, from its seeds.

    What one run finds by chance another may not: a finding shows as FLAKY, with the input that fails in the log,
    and does not hold up a change that has nothing to do with it. A seed that fails fails each time.

    Args:
      name: name of the target.
      test: the go_test. What it depends on is what decides whether it has to be fuzzed again.
    """
    native_test(
        name = name,
        size = "small",
        flaky = True,
        src = "//tools/fuzz",
        out = name,
        args = ["$(rootpath {})".format(test)],
        data = [test],
    )
