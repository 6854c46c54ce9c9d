"""component_image: an image as kubeadm asks for it."""

load("@io_bazel_rules_docker//container:bundle.bzl", "container_bundle")
load("@io_bazel_rules_docker//container:image.bzl", "container_image")

# rules_docker's own tar writer is a Python program that drops file capabilities, and whose bytes
# depend on the Python version. This one takes the layer as it is.
_BUILD_TAR = "//tools/buildtar"

def component_base(name, layer, **kwargs):
    """Makes a base for component images.

    Args:
      name: name of the image.
      layer: its layer, a `component_layer`.
      **kwargs: further attributes of container_image.
    """
    container_image(
        name = name,
        architecture = "amd64",
        build_layer = _BUILD_TAR,
        compression_options = ["-fast"],
        tars = [layer],
        **kwargs
    )

def component_image(name, repository, layer, tag, base = None, program = None, tags = [], visibility = None, **kwargs):
    """Makes an image of one layer over a base, and its tarball.

    Args:
      name: name of the tarball's target, whose file is NAME.tar: an archive as `docker save` writes
        it, its layers uncompressed.
      repository: name of the image, without a tag.
      layer: its layer, a `component_layer`.
      tag: the tag. `$(VERSION)` and `$(BARE_VERSION)` in it stand for the version of `program`.
      base: base image, a `component_base`.
      program: the `go_program` whose version the tag names.
      tags: tags of the image and the tarball.
      visibility: visibility of both.
      **kwargs: further attributes of container_image: entrypoint, cmd, user, env, workdir, ports …
    """
    component_base(
        name = name + ".image",
        base = base,
        layer = layer,
        tags = tags,
        visibility = visibility,
        **kwargs
    )
    container_bundle(
        name = name + ".bundle",
        images = {"{}:{}".format(repository, tag): name + ".image"},
        tags = tags,
        tar_output = name + ".tar",
        toolchains = [program] if program else [],
        visibility = visibility,
    )
