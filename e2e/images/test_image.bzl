"""test_image: an image that Kubernetes' tests use, under each of its tags."""

load("@io_bazel_rules_docker//container:bundle.bzl", "container_bundle")
load("//rules:component_image.bzl", "component_base")
load(":tags.bzl", "TAGS", "full_name")

def test_image(name, base = None, layer = None, visibility = None, **kwargs):
    """An image for each tag in `TAGS[name]`, of a base, a layer or both: the target's name is the tag.

    `NAME.tar` is the first of them as a file for `docker load`; //e2e/images:images.tar has all. If it has a
    layer, `NAME.content` is the same image without a tag, as a base for others.

    Args:
      name: name of the image, without registry and tag.
      base: what it is over, a `component_base`, as `NAME.content` is.
      layer: its own layer, a `component_layer`.
      visibility: visibility of the targets.
      **kwargs: further attributes of container_image: entrypoint, cmd, user, env, ports …
    """
    if layer:
        component_base(
            name = name + ".content",
            base = base,
            layer = layer,
            visibility = visibility,
            **kwargs
        )
        base = name + ".content"
        kwargs = {}
    for tag in TAGS[name]:
        component_base(
            name = tag,
            base = base,
            # As upstream labels its images. It makes those of one name different.
            labels = {"image_version": tag},
            # An archive stores a layer again when it is the last one of another image. So the last one is empty.
            layer = "//e2e/images:empty_layer",
            visibility = visibility,
            **kwargs
        )
    container_bundle(
        name = name + ".bundle",
        images = {full_name(name, TAGS[name][0]): ":" + TAGS[name][0]},
        tar_output = name + ".tar",
        visibility = visibility,
    )
