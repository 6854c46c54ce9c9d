"""Images of Kubernetes' components, as tarballs for `docker load` and for containerd, made with rules_docker.

* `component_layer` makes a layer's files with tools/imager: ours, and single ones from Debian
  packages.
* `component_layer_golden` compares what is in a layer with a listing; `bazel run NAME.update`
  writes the listing.
* `component_image` makes an image of one layer over a base, and its tarball under the name that
  kubeadm asks for.
"""

load("//rules/private/component:golden.bzl", _component_layer_golden = "component_layer_golden")
load("//rules/private/component:image.bzl", _component_base = "component_base", _component_image = "component_image")
load("//rules/private/component:layer.bzl", _component_layer = "component_layer")

component_base = _component_base
component_image = _component_image
component_layer = _component_layer
component_layer_golden = _component_layer_golden
