"""Container images: layers of Debian packages and files, assembled without a daemon.

* `image_layer` makes one layer.
* `image` makes an image of layers, over another image or none; with it come `NAME.tar` for `docker
  load`, `NAME.layout`, an OCI layout, and `bazel run NAME.load`.
* `image_store` makes a layer with images as containerd has them once it has unpacked them, and
  `image_unpacked` the layers of an image that holds another image so.
* `image_push` pushes an image to a registry, `image_push_all` several together.
* `image_sbom` writes what an image is made of as SPDX.

Goldens of images are in golden.bzl.

A layer is one blob, which is compressed once and then only referred to: by the image's manifest, by
whatever sends it to an engine. What joins blobs into one file is built on request only, and not
cached.
"""

load("//rules/private/image:image.bzl", _image = "image")
load("//rules/private/image:image_info.bzl", _ImageInfo = "ImageInfo")
load("//rules/private/image:layer.bzl", _image_layer = "image_layer")
load("//rules/private/image:layer_info.bzl", _LayerInfo = "LayerInfo")
load("//rules/private/image:push.bzl", _image_push = "image_push", _image_push_all = "image_push_all")
load("//rules/private/image:sbom.bzl", _image_sbom = "image_sbom")
load("//rules/private/image:store.bzl", _image_store = "image_store", _image_unpacked = "image_unpacked")

ImageInfo = _ImageInfo
LayerInfo = _LayerInfo
image = _image
image_layer = _image_layer
image_push = _image_push
image_push_all = _image_push_all
image_sbom = _image_sbom
image_store = _image_store
image_unpacked = _image_unpacked
