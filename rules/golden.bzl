"""Goldens: the files of images, as listings that a reviewer reads as a diff.

* `golden_test` compares the files of layers with a golden listing, and `bazel run NAME.update`
  writes it.
* `golden_update` writes several.
"""

load("//rules/private/golden:golden.bzl", _golden_test = "golden_test", _golden_update = "golden_update")

golden_test = _golden_test
golden_update = _golden_update
